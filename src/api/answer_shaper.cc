// From a request's fields to the grammar's rules and the parser's options, which must agree.
#include "api/answer_shaper.h"

namespace hearth {
namespace {

GrammarVocabulary vocabulary_of(const Tokenizer& tokenizer, std::vector<int32_t> end_tokens, int64_t size) {
  GrammarVocabulary out;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    out.tokens.emplace_back(tokenizer.is_special(id) ? std::string_view() : tokenizer.token_bytes(id));
  }
  out.tokens.resize(std::min(out.tokens.size(), static_cast<size_t>(size)));
  out.size = size;
  out.end_tokens = std::move(end_tokens);
  out.encode = [&tokenizer](std::string_view text) {
    auto ids = tokenizer.encode(text);
    return ids.ok() ? std::move(ids).value() : std::vector<int32_t>();
  };
  return out;
}

}  // namespace

AnswerShaper::AnswerShaper(const AnswerFormat& format, const Tokenizer& tokenizer, std::vector<int32_t> end_tokens,
                           int64_t vocab_size)
    : format_(format),
      tokenizer_(tokenizer),
      control_token_([&tokenizer](std::string_view name) -> std::optional<int32_t> {
        const auto id = tokenizer.token_id(name);
        return id && tokenizer.is_special(*id) ? id : std::nullopt;
      }),
      compiler_(make_grammar_compiler(vocabulary_of(tokenizer, std::move(end_tokens), vocab_size))) {}

Result<std::shared_ptr<const Grammar>> AnswerShaper::compile(const GrammarSpec& spec, std::string_view param) const {
  auto grammar = compiler_->compile(spec);
  if (grammar.ok()) return grammar;
  return Status(grammar.status()).with_param(param);
}

Result<AnswerShape> AnswerShaper::of_completion(const GenerationRequest& request) const {
  AnswerShape out;
  if (request.form.spec) {
    HEARTH_ASSIGN(out.grammar, compile(*request.form.spec, request.form.param));
  }
  return out;
}

Result<AnswerShape> AnswerShaper::of_chat(const ChatRequest& request, const std::vector<int32_t>& prompt) const {
  AnswerRules rules{.format = format_, .tools = request.tools.tools, .choice = request.tools.choice};
  rules.parallel = request.tools.parallel;
  rules.reasoning_budget = request.reasoning.budget;
  rules.content = request.form.spec;
  rules.control_token = control_token_;
  rules.may_reason = !request.continue_final_message;
  if (format_.reasoning != nullptr) {
    constexpr size_t kTail = 16;  // tokens
    const size_t begin = prompt.size() - std::min(prompt.size(), kTail);
    const std::string tail = tokenizer_.decode({prompt.begin() + static_cast<int64_t>(begin), prompt.end()}, false);
    const std::string_view text = std::string_view(tail).substr(0, tail.find_last_not_of(" \n") + 1);
    rules.in_reasoning = text.ends_with(format_.reasoning->begin);
    if (text.ends_with(format_.reasoning->end)) rules.may_reason = false;
  }
  const std::string_view param = request.form.spec ? std::string_view(request.form.param) : "tools";
  auto spec = answer_grammar(rules);
  if (!spec.ok()) return spec.status().param().empty() ? Status(spec.status()).with_param(param) : spec.status();
  AnswerShape out;
  if (*spec) {
    HEARTH_ASSIGN(out.grammar, compile(**spec, param));
  }
  const bool calls = rules.choice != ToolChoice::kNone && !rules.tools.empty();
  const bool reasons = format_.harmony || (format_.reasoning != nullptr && rules.may_reason);
  if (calls || (reasons && request.skip_special_tokens)) {
    out.parser = ParserOptions{format_, control_token_, {}, rules.in_reasoning, rules.may_reason};
    if (calls) out.parser->tools = rules.tools;
  }
  return out;
}

}  // namespace hearth
