// The grammar of what a request lets a model write: reasoning, then text, tool calls or an answer of a given form, in
// the model's own format. What the grammar allows is what AnswerParser understands.
#pragma once

#include <optional>

#include "formats/answer_parser.h"
#include "grammar/grammar_spec.h"

namespace hearth {

enum class ToolChoice { kNone, kAuto, kRequired };

struct AnswerRules {
  AnswerFormat format;
  std::vector<Tool> tools;  // that may be called
  ToolChoice choice = ToolChoice::kNone;
  bool parallel = true;  // several calls in one answer
  bool in_reasoning = false, may_reason = true;
  std::optional<int64_t> reasoning_budget;  // tokens
  std::optional<GrammarSpec> content;       // the answer's form
  ControlTokens control_token;
};

// Nullopt: anything may be written.
Result<std::optional<GrammarSpec>> answer_grammar(const AnswerRules& rules);

}  // namespace hearth
