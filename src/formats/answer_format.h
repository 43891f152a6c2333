// AnswerFormat: how a model writes tool calls and reasoning into its text. Data: what differs between models is
// literals.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace hearth {

// Calls are: section_begin, call, separator, call, ..., section_end. A call is: begin, name, middle, arguments, end.
// All are literals in the model's own spelling; those between spaces may be single tokens of the vocabulary.
struct CallFormat {
  std::string_view name;  // of --tool-call-parser
  std::string_view section_begin, section_end, separator;
  std::string_view begin, middle, end;
  std::string_view id;  // what an id begins with, up to its quote, that a call may have before `end`; it is passed over
  // How arguments are written: one JSON object, or a list of named values.
  struct Parameters {
    std::string_view begin, middle, end;  // begin name middle value end
  };
  std::optional<Parameters> parameters;  // none: JSON
  bool only_at_start = false;            // a call that is not at the answer's beginning is text
  size_t id_length = 24;                 // letters and digits of a call's id
  std::string_view id_prefix = "call_";
};

struct ReasoningFormat {
  std::string_view name;  // of --reasoning-parser
  std::string_view begin, end;
};

// Of one model. Harmony has both in channels of its own.
struct AnswerFormat {
  const CallFormat* calls = nullptr;
  const ReasoningFormat* reasoning = nullptr;
  bool harmony = false;
  // What the chat template reads: reasoning_effort, and enable_thinking, which may be false.
  bool reads_effort = false, reads_enable_thinking = false;
};

// By name, vLLM's names included; "auto" chooses by the chat template's source, "none" is none. Null where a model has
// none.
Result<AnswerFormat> choose_format(std::string_view tool_call_parser, std::string_view reasoning_parser,
                                   std::string_view chat_template);

const std::vector<CallFormat>& call_formats();

// The id of a control token by its name; null: there is none, and the name is ordinary text.
using ControlTokens = std::function<std::optional<int32_t>(std::string_view)>;

// A literal's text, and the control tokens in it.
struct LiteralPart {
  std::string text;              // of a control token its name
  std::optional<int32_t> token;  // none: ordinary text
};
std::vector<LiteralPart> literal_parts(std::string_view literal, const ControlTokens& control_token);

}  // namespace hearth
