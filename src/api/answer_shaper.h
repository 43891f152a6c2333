// AnswerShaper: what one model's answers may look like, by request: a grammar for the engine, a parser for what comes.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "api/chat_request.h"
#include "formats/answer_parser.h"
#include "grammar/grammar_compiler.h"
#include "text/tokenizer.h"

namespace hearth {

struct AnswerShape {
  std::shared_ptr<const Grammar> grammar;  // null: anything
  std::optional<ParserOptions> parser;     // none: all of it is content
  bool show_reasoning = true;
};

class AnswerShaper {
 public:
  // `vocab_size`: rows of the model's logits.
  AnswerShaper(const AnswerFormat& format, const Tokenizer& tokenizer, std::vector<int32_t> end_tokens,
               int64_t vocab_size);

  const AnswerFormat& format() const { return format_; }
  // May wait for a compilation: not for the engine's thread.
  Result<AnswerShape> of_completion(const GenerationRequest& request) const;
  // `prompt`: as the template rendered it; its end says whether reasoning has begun.
  Result<AnswerShape> of_chat(const ChatRequest& request, const std::vector<int32_t>& prompt) const;

 private:
  Result<std::shared_ptr<const Grammar>> compile(const GrammarSpec& spec, std::string_view param) const;

  const AnswerFormat format_;
  const Tokenizer& tokenizer_;
  const ControlTokens control_token_;
  const std::unique_ptr<GrammarCompiler> compiler_;
};

}  // namespace hearth
