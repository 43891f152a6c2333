// Items become messages: neighbouring calls and the text before them are one message of the assistant.
#include "api/responses_request.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "api/fields.h"

namespace hearth {
namespace {

class Items {
 public:
  Items(Fields& fields, Json& messages) : fields_(fields), messages_(messages) {}

  void add(const Json& item, const std::string& path) {
    if (!item.is_object()) return fields_.refuse(path, "must be an object");
    Fields inner(item, path);
    std::string type = item.contains("role") ? "message" : "";
    inner.read("type", type);
    if (type == "message") {
      message(inner);
    } else if (type == "function_call") {
      std::string id, name, arguments;
      inner.read("call_id", id);
      inner.read("name", name);
      inner.read("arguments", arguments);
      if (inner.ok())
        assistant()["tool_calls"].push_back(
            {{"id", id}, {"type", "function"}, {"function", {{"name", name}, {"arguments", arguments}}}});
    } else if (type == "function_call_output") {
      std::string id, output;
      inner.read("call_id", id);
      if (const Json* value = inner.get("output")) text_of(inner, "output", *value, output);
      if (inner.ok()) messages_.push_back({{"role", "tool"}, {"tool_call_id", id}, {"content", output}});
    } else if (type == "reasoning") {
      std::string text;
      if (const Json* content = inner.get("content")) text_of(inner, "content", *content, text);
      if (inner.ok() && !text.empty()) assistant()["reasoning_content"] = text;
    } else {
      inner.refuse("type", "is not supported: message, function_call, function_call_output and reasoning are");
    }
    fields_.fail(inner.status());
  }

 private:
  void message(Fields& inner) {
    std::string role, text;
    inner.read("role", role);
    const Json* content = inner.get("content");
    if (content == nullptr) return inner.refuse("content", "is required");
    text_of(inner, "content", *content, text);
    if (!inner.ok()) return;
    // What the model thought before it is of the same message.
    if (role == "assistant" && !messages_.empty() && messages_.back()["role"] == "assistant" &&
        messages_.back()["content"] == "" && !messages_.back().contains("tool_calls")) {
      messages_.back()["content"] = text;
    } else {
      messages_.push_back({{"role", role}, {"content", text}});
    }
  }

  // The assistant's message that calls and reasoning belong to.
  Json& assistant() {
    if (messages_.empty() || messages_.back()["role"] != "assistant")
      messages_.push_back({{"role", "assistant"}, {"content", ""}});
    return messages_.back();
  }

  static void text_of(Fields& fields, std::string_view name, const Json& value, std::string& out) {
    if (value.is_string()) {
      out = value.get_ref<const std::string&>();
      return;
    }
    if (!value.is_array()) return fields.refuse(name, "must be a string or a list of parts");
    for (const Json& part : value) {
      const std::string type =
          part.is_object() && part.contains("type") && part["type"].is_string() ? part["type"] : "";
      const bool is_text = type == "input_text" || type == "output_text" || type == "text" || type == "reasoning_text";
      if (!is_text || !part.contains("text") || !part["text"].is_string())
        return fields.refuse(name, "may hold parts of text only");
      if (!out.empty()) out += '\n';
      out += part["text"].get_ref<const std::string&>();
    }
  }

  Fields& fields_;
  Json& messages_;
};

// Functions stand in a tool itself, not below "function".
void read_tools(Fields& fields, Json& chat) {
  const Json* tools = fields.get("tools");
  if (tools != nullptr && !tools->empty()) {
    if (!tools->is_array()) return fields.refuse("tools", "must be a list");
    chat["tools"] = Json::array();
    for (size_t i = 0; i < tools->size(); ++i) {
      const Json& tool = (*tools)[i];
      if (!tool.is_object() || !tool.contains("type") || tool["type"] != "function") {
        return fields.refuse(cat("tools[", i, "].type"),
                             "must be function: tools that the server runs are not supported");
      }
      Json function = Json::object();
      for (const char* name : {"name", "description", "parameters", "strict"}) {
        if (tool.contains(name) && !tool[name].is_null()) function[name] = tool[name];
      }
      chat["tools"].push_back({{"type", "function"}, {"function", std::move(function)}});
    }
  }
  const Json* choice = fields.get("tool_choice");
  if (choice == nullptr) return;
  const auto named = [](const Json& one) {
    return Json{{"type", "function"}, {"function", {{"name", one.value("name", Json())}}}};
  };
  if (!choice->is_object()) {
    chat["tool_choice"] = *choice;
  } else if (choice->value("type", Json()) == "function") {
    chat["tool_choice"] = named(*choice);
  } else if (choice->value("type", Json()) == "allowed_tools" && choice->contains("tools") &&
             (*choice)["tools"].is_array()) {
    Json list = Json::array();
    for (const Json& one : (*choice)["tools"]) list.push_back(one.is_object() ? named(one) : one);
    chat["tool_choice"] = {
        {"type", "allowed_tools"},
        {"allowed_tools", {{"mode", choice->value("mode", Json("auto"))}, {"tools", std::move(list)}}}};
  } else {
    fields.refuse("tool_choice", "must be none, auto, required, a function or allowed_tools");
  }
}

void read_text(Fields& fields, Json& chat) {
  const Json* text = fields.get("text");
  if (text == nullptr) return;
  if (!text->is_object()) return fields.refuse("text", "must be an object");
  Fields inner(*text, "text");
  const Json* format = inner.get("format");
  if (format == nullptr) return;
  if (!format->is_object()) return fields.refuse("text.format", "must be an object");
  if (format->value("type", Json()) == "json_schema") {
    chat["response_format"] = {{"type", "json_schema"}, {"json_schema", *format}};
  } else {
    chat["response_format"] = *format;
  }
}

}  // namespace

Result<ResponsesRequest> parse_responses_request(const Json& body) {
  ResponsesRequest out;
  Fields fields(body);
  Json messages = Json::array();
  std::string instructions;
  fields.read("instructions", instructions);
  if (!instructions.empty()) messages.push_back({{"role", "system"}, {"content", instructions}});
  const Json* input = fields.get("input");
  if (input == nullptr) {
    fields.refuse("input", "is required");
  } else if (input->is_string()) {
    messages.push_back({{"role", "user"}, {"content", *input}});
  } else if (!input->is_array() || input->empty()) {
    fields.refuse("input", "must be a string or a list of items, not empty");
  } else {
    Items items(fields, messages);
    for (size_t i = 0; fields.ok() && i < input->size(); ++i) items.add((*input)[i], cat("input[", i, "]"));
  }
  out.has_instructions = !instructions.empty();
  out.chat = Json::object();
  out.chat["messages"] = std::move(messages);
  read_tools(fields, out.chat);
  read_text(fields, out.chat);
  if (const Json* reasoning = fields.get("reasoning")) {
    if (!reasoning->is_object()) fields.refuse("reasoning", "must be an object");
    if (reasoning->is_object() && reasoning->contains("effort") && !(*reasoning)["effort"].is_null())
      out.chat["reasoning_effort"] = (*reasoning)["effort"];
  }
  fields.read("previous_response_id", out.previous);
  fields.read("store", out.store);
  std::string truncation = "disabled";
  fields.read("truncation", truncation);
  if (truncation != "disabled") fields.refuse("truncation", "must be disabled");
  bool background = false;
  fields.read("background", background);
  if (background) fields.refuse("background", "is not supported");
  for (const std::string_view name : {"conversation", "prompt", "max_tool_calls"}) {
    if (fields.get(name) != nullptr) fields.refuse(name, "is not supported");
  }
  constexpr std::pair<const char*, const char*> kSame[] = {{"model", "model"},
                                                           {"max_output_tokens", "max_tokens"},
                                                           {"temperature", "temperature"},
                                                           {"top_p", "top_p"},
                                                           {"stream", "stream"},
                                                           {"parallel_tool_calls", "parallel_tool_calls"},
                                                           {"seed", "seed"},
                                                           {"chat_template_kwargs", "chat_template_kwargs"},
                                                           {"thinking_token_budget", "thinking_token_budget"}};
  for (const auto& [name, chat_name] : kSame) {
    if (const Json* value = fields.get(name)) out.chat[chat_name] = *value;
  }
  if (!fields.ok()) return fields.status();
  // As the API documents what is not given.
  const auto given = [&](const char* name, Json otherwise) {
    const Json* value = fields.get(name);
    out.echo[name] = value == nullptr ? std::move(otherwise) : *value;
  };
  given("instructions", nullptr);
  given("max_output_tokens", nullptr);
  given("metadata", Json::object());
  given("parallel_tool_calls", true);
  given("previous_response_id", nullptr);
  given("reasoning", {{"effort", nullptr}, {"summary", nullptr}});
  given("store", true);
  given("temperature", 1.0);
  given("text", {{"format", {{"type", "text"}}}});
  given("tool_choice", "auto");
  given("tools", Json::array());
  given("top_p", 1.0);
  given("truncation", "disabled");
  return out;
}

}  // namespace hearth
