// AnswerParser: a model's text as it comes, in pieces of any size, into content, reasoning and tool calls. The same
// pieces come out, joined, however the text was cut.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "formats/answer_format.h"
#include "formats/tool.h"

namespace hearth {

struct AnswerPiece {
  enum class Kind { kContent, kReasoning, kCall, kArguments };
  Kind kind = Kind::kContent;
  std::string text;  // kCall: the function's name; kArguments: more of the last call's JSON
  bool operator==(const AnswerPiece&) const = default;
};

class AnswerParser {
 public:
  virtual ~AnswerParser() = default;
  // Whole characters of text, or a control token's name. Appends to `out`, joining what is of one kind.
  virtual void push(std::string_view text, std::vector<AnswerPiece>& out) = 0;
  virtual void push_control(std::string_view name, std::vector<AnswerPiece>& out) = 0;
  // Whether what comes next is reasoning.
  virtual bool in_reasoning() const = 0;
  // The text has ended.
  virtual void finish(std::vector<AnswerPiece>& out) = 0;
};

struct ParserOptions {
  AnswerFormat format;
  ControlTokens control_token;
  std::vector<Tool> tools;    // none: calls are text
  bool in_reasoning = false;  // the prompt has opened it
  bool may_reason = true;     // false: the prompt has closed it, and no marker counts
};
std::unique_ptr<AnswerParser> make_answer_parser(ParserOptions options);

}  // namespace hearth
