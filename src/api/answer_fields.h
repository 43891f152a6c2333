// The fields that say what an answer must look like: its form (response_format, structured_outputs and its older
// names), the tools it may call, and how it reasons.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "api/fields.h"
#include "formats/answer_grammar.h"

namespace hearth {

// What an answer's text must match.
struct AnswerForm {
  std::optional<GrammarSpec> spec;  // none: anything
  std::string param;                // the field that says it
};
// `response_format` is chat's; the others, vLLM's, are of completions too.
void read_answer_form(Fields& fields, AnswerForm& out);

struct ToolsRequest {
  Json listed;              // as the client sent them, for the template; null: none
  std::vector<Tool> tools;  // that may be called
  ToolChoice choice = ToolChoice::kNone;
  bool parallel = true;
};
void read_tools(Fields& fields, ToolsRequest& out);

struct ReasoningRequest {
  std::string effort;             // empty: not said
  std::optional<int64_t> budget;  // tokens
  bool include = true;            // whether the client is shown it
};
void read_reasoning(Fields& fields, ReasoningRequest& out);

// Those above that are chat's alone, where they ask for something.
void refuse_chat_fields(Fields& fields);

}  // namespace hearth
