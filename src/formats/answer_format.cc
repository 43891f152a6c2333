// The formats, and what of a template's source tells which is its model's.
#include "formats/answer_format.h"

#include <algorithm>
#include <utility>

namespace hearth {
namespace {

constexpr ReasoningFormat kThink{"think", "<think>", "</think>"};
constexpr ReasoningFormat kMistralThink{"mistral", "[THINK]", "[/THINK]"};

struct Alias {
  std::string_view name, means;
};
constexpr Alias kCallAliases[] = {{"qwen3_xml", "qwen3_coder"},
                                  {"llama4_json", "llama3_json"},
                                  {"glm", "glm45"},
                                  {"glm47", "glm45"},
                                  {"minimax", "minimax_m2"}};
constexpr std::string_view kHarmonyNames[] = {"harmony", "openai", "openai_gptoss", "gpt-oss"};
constexpr std::string_view kThinkNames[] = {"think",      "deepseek_r1", "qwen3",  "glm45",
                                            "minimax_m2", "deepseek_v3", "granite"};

bool has(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }
bool is_harmony(std::string_view name) { return std::ranges::find(kHarmonyNames, name) != std::end(kHarmonyNames); }

const CallFormat* named(std::string_view name) {
  for (const Alias& alias : kCallAliases) {
    if (alias.name == name) name = alias.means;
  }
  for (const CallFormat& format : call_formats()) {
    if (format.name == name) return &format;
  }
  return nullptr;
}

const CallFormat* of_template(std::string_view source) {
  if (has(source, "<minimax:tool_call>")) return named("minimax_m2");
  if (has(source, "<arg_key>")) return named("glm45");
  if (has(source, "<function=")) return named("qwen3_coder");
  if (has(source, "[TOOL_CALLS]")) return named(has(source, "[ARGS]") ? "mistral" : "mistral_v3");
  if (has(source, "<｜tool▁calls▁begin｜>")) return named(has(source, "```json") ? "deepseek_v3" : "deepseek_v31");
  if (has(source, "<tool_call>")) return named("hermes");
  if (has(source, "<|python_tag|>") || has(source, "\"parameters\": ")) return named("llama3_json");
  return nullptr;
}

}  // namespace

const std::vector<CallFormat>& call_formats() {
  static const std::vector<CallFormat> all{
      {.name = "hermes",
       .separator = "\n",
       .begin = "<tool_call>\n{\"name\": \"",
       .middle = "\", \"arguments\": ",
       .end = "}\n</tool_call>"},
      {.name = "qwen3_coder",
       .separator = "\n",
       .begin = "<tool_call>\n<function=",
       .middle = ">\n",
       .end = "</function>\n</tool_call>",
       .parameters = CallFormat::Parameters{"<parameter=", ">\n", "\n</parameter>\n"}},
      {.name = "mistral", .begin = "[TOOL_CALLS]", .middle = "[ARGS]", .end = "", .id_length = 9, .id_prefix = ""},
      {.name = "mistral_v3",
       .section_begin = "[TOOL_CALLS][",
       .section_end = "]",
       .separator = ", ",
       .begin = "{\"name\": \"",
       .middle = "\", \"arguments\": ",
       .end = "}",
       .id = ", \"id\": \"",
       .id_length = 9,
       .id_prefix = ""},
      {.name = "llama3_json",
       .separator = "; ",
       .begin = "{\"name\": \"",
       .middle = "\", \"parameters\": ",
       .end = "}",
       .only_at_start = true},
      {.name = "glm45",
       .separator = "\n",
       .begin = "<tool_call>",
       .middle = "\n",
       .end = "</tool_call>",
       .parameters = CallFormat::Parameters{"<arg_key>", "</arg_key>\n<arg_value>", "</arg_value>\n"}},
      {.name = "minimax_m2",
       .section_begin = "<minimax:tool_call>\n",
       .section_end = "</minimax:tool_call>",
       .begin = "<invoke name=\"",
       .middle = "\">\n",
       .end = "</invoke>\n",
       .parameters = CallFormat::Parameters{"<parameter name=\"", "\">", "</parameter>\n"}},
      {.name = "deepseek_v3",
       .section_begin = "<｜tool▁calls▁begin｜>",
       .section_end = "<｜tool▁calls▁end｜>",
       .separator = "\n",
       .begin = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
       .middle = "\n```json\n",
       .end = "\n```<｜tool▁call▁end｜>"},
      {.name = "deepseek_v31",
       .section_begin = "<｜tool▁calls▁begin｜>",
       .section_end = "<｜tool▁calls▁end｜>",
       .begin = "<｜tool▁call▁begin｜>",
       .middle = "<｜tool▁sep｜>",
       .end = "<｜tool▁call▁end｜>"},
  };
  return all;
}

std::vector<LiteralPart> literal_parts(std::string_view literal, const ControlTokens& control_token) {
  std::vector<LiteralPart> out;
  std::string text;
  for (size_t at = 0; at < literal.size();) {
    const char open = literal[at];
    const size_t end = open == '<'   ? literal.find('>', at)
                       : open == '[' ? literal.find(']', at)
                                     : std::string_view::npos;
    const auto token = end == std::string_view::npos || !control_token
                           ? std::nullopt
                           : control_token(literal.substr(at, end + 1 - at));
    if (!token) {
      text += literal[at++];
      continue;
    }
    if (!text.empty()) out.push_back({std::exchange(text, {}), std::nullopt});
    out.push_back({std::string(literal.substr(at, end + 1 - at)), token});
    at = end + 1;
  }
  if (!text.empty()) out.push_back({text, std::nullopt});
  return out;
}

Result<AnswerFormat> choose_format(std::string_view tool_call_parser, std::string_view reasoning_parser,
                                   std::string_view chat_template) {
  AnswerFormat out;
  out.reads_effort = has(chat_template, "reasoning_effort");
  out.reads_enable_thinking = has(chat_template, "enable_thinking");
  const bool harmony_template = has(chat_template, "<|channel|>") && has(chat_template, "<|message|>");
  const bool automatic = tool_call_parser == "auto" && reasoning_parser == "auto";
  if (is_harmony(tool_call_parser) || is_harmony(reasoning_parser) || (automatic && harmony_template)) {
    out.harmony = true;
    return out;
  }
  if (tool_call_parser == "auto") {
    out.calls = of_template(chat_template);
  } else if (tool_call_parser != "none") {
    out.calls = named(tool_call_parser);
    if (out.calls == nullptr) {
      std::string names;
      for (const CallFormat& format : call_formats()) names += cat(format.name, ", ");
      return invalid("--tool-call-parser must be auto, none, ", names, "or harmony");
    }
  }
  if (reasoning_parser == "auto") {
    if (has(chat_template, "<think>") || has(chat_template, "</think>")) out.reasoning = &kThink;
    if (has(chat_template, "[THINK]")) out.reasoning = &kMistralThink;
  } else if (reasoning_parser == "mistral") {
    out.reasoning = &kMistralThink;
  } else if (std::ranges::find(kThinkNames, reasoning_parser) != std::end(kThinkNames)) {
    out.reasoning = &kThink;
  } else if (reasoning_parser != "none") {
    return invalid("--reasoning-parser must be auto, none, think, mistral or harmony");
  }
  return out;
}

}  // namespace hearth
