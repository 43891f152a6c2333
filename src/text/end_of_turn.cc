// A conversation is rendered, and what follows the answer in it is looked at.
#include "text/end_of_turn.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>

namespace hearth {
namespace {

constexpr std::string_view kAnswer = "Certainly";

// What a rendering has behind the answer, without white space at its beginning.
std::string_view behind_answer(const RenderedPrompt& rendered) {
  std::string_view rest;
  for (const ByteRange& range : rendered.from_request) {
    const std::string_view text = std::string_view(rendered.text).substr(range.begin, range.end - range.begin);
    if (text == kAnswer) rest = std::string_view(rendered.text).substr(range.end);
  }
  return rest.substr(std::min(rest.find_first_not_of(" \n\t\r"), rest.size()));
}

}  // namespace

std::optional<int32_t> end_of_turn(const ChatTemplate& chat_template, const Tokenizer& tokenizer) {
  Json messages = {{{"role", "user"}, {"content", "Hello"}}, {{"role", "assistant"}, {"content", kAnswer}}};
  // Some templates write the end of a turn with the next one only.
  for (const bool another_turn : {false, true}) {
    if (another_turn) messages.push_back({{"role", "user"}, {"content", "Thanks"}});
    Json variables{
        {"messages", messages}, {"add_generation_prompt", false}, {"tools", nullptr}, {"documents", nullptr}};
    for (const auto& [name, text] : tokenizer.names()) variables[name] = text;
    const auto rendered = chat_template.render(variables, 0);
    if (!rendered.ok()) continue;
    const auto ids = tokenizer.encode(behind_answer(*rendered), {.parse_special = true});
    if (ids.ok() && !ids->empty() && tokenizer.is_special(ids->front())) return ids->front();
  }
  return std::nullopt;
}

}  // namespace hearth
