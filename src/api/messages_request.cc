// Content blocks become messages: an assistant's are one message with its calls, a tool's results one message each.
#include "api/messages_request.h"

#include <nlohmann/json.hpp>

#include "api/fields.h"

namespace hearth {
namespace {

// A string, or blocks of text.
bool read_text(Fields& fields, std::string_view name, const Json& value, std::string& out) {
  if (value.is_string()) {
    out += value.get_ref<const std::string&>();
    return true;
  }
  if (!value.is_array()) {
    fields.refuse(name, "must be a string or a list of blocks");
    return false;
  }
  for (const Json& block : value) {
    if (!block.is_object() || block.value("type", Json()) != "text" || !block.contains("text") ||
        !block["text"].is_string()) {
      fields.refuse(name, "may hold blocks of type text only");
      return false;
    }
    if (!out.empty()) out += '\n';
    out += block["text"].get_ref<const std::string&>();
  }
  return true;
}

class Conversation {
 public:
  Conversation(Fields& fields, Json& messages) : fields_(fields), messages_(messages) {}

  void add(const Json& message, const std::string& path) {
    if (!message.is_object()) return fields_.refuse(path, "must be an object");
    Fields inner(message, path);
    std::string role;
    inner.read("role", role);
    if (role != "user" && role != "assistant") inner.refuse("role", "must be user or assistant");
    const Json* content = inner.get("content");
    if (inner.ok() && content == nullptr) inner.refuse("content", "is required");
    if (!inner.ok()) return fields_.fail(inner.status());
    if (content->is_string()) {
      messages_.push_back({{"role", role}, {"content", *content}});
      return;
    }
    if (!content->is_array()) return fields_.refuse(path + ".content", "must be a string or a list of blocks");
    std::string text, thinking;
    Json calls = Json::array();
    for (size_t i = 0; i < content->size() && fields_.ok(); ++i) {
      block((*content)[i], cat(path, ".content[", i, "]"), role, text, thinking, calls);
    }
    if (!fields_.ok()) return;
    if (role == "user") {
      if (!text.empty() || content->empty()) messages_.push_back({{"role", role}, {"content", text}});
      return;
    }
    Json out{{"role", role}, {"content", text}};
    if (!thinking.empty()) out["reasoning_content"] = thinking;
    if (!calls.empty()) out["tool_calls"] = std::move(calls);
    messages_.push_back(std::move(out));
  }

 private:
  void block(const Json& value, const std::string& path, const std::string& role, std::string& text,
             std::string& thinking, Json& calls) {
    if (!value.is_object()) return fields_.refuse(path, "must be an object");
    Fields inner(value, path);
    std::string type;
    inner.read("type", type);
    if (type == "text") {
      std::string one;
      inner.read("text", one);
      if (!text.empty()) text += '\n';
      text += one;
    } else if (type == "tool_use" && role == "assistant") {
      std::string id, name;
      inner.read("id", id);
      inner.read("name", name);
      const Json* input = inner.get("input");
      if (input == nullptr || !input->is_object()) inner.refuse("input", "must be an object");
      if (inner.ok()) {
        calls.push_back(
            {{"id", id}, {"type", "function"}, {"function", {{"name", name}, {"arguments", input->dump()}}}});
      }
    } else if (type == "tool_result" && role == "user") {
      std::string id, result;
      inner.read("tool_use_id", id);
      if (const Json* content = inner.get("content")) read_text(inner, "content", *content, result);
      if (inner.ok()) messages_.push_back({{"role", "tool"}, {"tool_call_id", id}, {"content", result}});
    } else if (type == "thinking" && role == "assistant") {
      inner.read("thinking", thinking);
    } else if (type != "redacted_thinking") {
      inner.refuse("type", "is not supported: text, tool_use, tool_result and thinking are");
    }
    fields_.fail(inner.status());
  }

  Fields& fields_;
  Json& messages_;
};

void read_tools(Fields& fields, Json& out) {
  const Json* tools = fields.get("tools");
  if (tools == nullptr || tools->empty()) return;
  if (!tools->is_array()) return fields.refuse("tools", "must be a list");
  out["tools"] = Json::array();
  for (size_t i = 0; i < tools->size(); ++i) {
    const std::string path = cat("tools[", i, "]");
    const Json& tool = (*tools)[i];
    if (!tool.is_object()) return fields.refuse(path, "must be an object");
    Fields inner(tool, path);
    std::string type = "custom";
    inner.read("type", type);
    if (type != "custom") inner.refuse("type", "must be custom: tools that the server runs are not supported");
    if (inner.get("name") == nullptr) inner.refuse("name", "is required");
    if (!inner.ok()) return fields.fail(inner.status());
    Json function{{"name", tool["name"]}};
    if (const Json* description = inner.get("description")) function["description"] = *description;
    if (const Json* schema = inner.get("input_schema")) function["parameters"] = *schema;
    if (const Json* strict = inner.get("strict")) function["strict"] = *strict;
    out["tools"].push_back({{"type", "function"}, {"function", std::move(function)}});
  }
  const Json* choice = fields.get("tool_choice");
  if (choice == nullptr) return;
  if (!choice->is_object()) return fields.refuse("tool_choice", "must be an object");
  Fields inner(*choice, "tool_choice");
  std::string type, name;
  bool one_only = false;
  inner.read("type", type);
  inner.read("name", name);
  inner.read("disable_parallel_tool_use", one_only);
  if (type == "auto" || type == "none") {
    out["tool_choice"] = type;
  } else if (type == "any") {
    out["tool_choice"] = "required";
  } else if (type == "tool") {
    out["tool_choice"] = {{"type", "function"}, {"function", {{"name", name}}}};
  } else {
    inner.refuse("type", "must be auto, any, tool or none");
  }
  if (one_only) out["parallel_tool_calls"] = false;
  fields.fail(inner.status());
}

void read_output(Fields& fields, Json& out) {
  const Json* config = fields.get("output_config");
  if (config == nullptr) return;
  if (!config->is_object()) return fields.refuse("output_config", "must be an object");
  Fields inner(*config, "output_config");
  if (const Json* effort = inner.get("effort")) out["reasoning_effort"] = *effort;
  if (const Json* format = inner.get("format")) {
    out["response_format"] = {{"type", "json_schema"}, {"json_schema", *format}};
    if (!format->is_object() || format->value("type", Json()) != "json_schema")
      inner.refuse("format", "must be of type json_schema");
  }
  fields.fail(inner.status());
}

void read_thinking(Fields& fields, Json& out) {
  const Json* thinking = fields.get("thinking");
  if (thinking == nullptr) return;
  if (!thinking->is_object()) return fields.refuse("thinking", "must be an object");
  Fields inner(*thinking, "thinking");
  std::string type;
  inner.read("type", type);
  if (type == "disabled") {
    out["reasoning_effort"] = "none";
  } else if (type == "enabled") {
    int64_t budget = 0;
    inner.read("budget_tokens", budget, 1, 1 << 30);
    if (budget > 0) out["thinking_token_budget"] = budget;
  } else if (type != "adaptive") {
    inner.refuse("type", "must be enabled, adaptive or disabled");
  }
  fields.fail(inner.status());
}

}  // namespace

Result<Json> chat_body_of_messages(const Json& body, bool counts_only) {
  Fields fields(body);
  Json out = Json::object();
  Json messages = Json::array();
  if (const Json* system = fields.get("system")) {
    std::string text;
    if (read_text(fields, "system", *system, text)) messages.push_back({{"role", "system"}, {"content", text}});
  }
  const Json* given = fields.get("messages");
  if (given == nullptr || !given->is_array() || given->empty()) fields.refuse("messages", "must be a list, not empty");
  Conversation conversation(fields, messages);
  for (size_t i = 0; fields.ok() && i < given->size(); ++i) conversation.add((*given)[i], cat("messages[", i, "]"));
  // An assistant's message at the end is the beginning of the answer.
  if (fields.ok() && !messages.empty() && messages.back()["role"] == "assistant" &&
      !messages.back().contains("tool_calls")) {
    out["continue_final_message"] = true;
    out["add_generation_prompt"] = false;
  }
  out["messages"] = std::move(messages);
  read_tools(fields, out);
  read_output(fields, out);
  read_thinking(fields, out);
  for (const std::string_view name : {"mcp_servers", "container", "output_format"}) {
    if (const Json* value = fields.get(name); value != nullptr && !value->empty())
      fields.refuse(name, "is not supported");
  }
  if (!counts_only && fields.get("max_tokens") == nullptr) fields.refuse("max_tokens", "is required");
  constexpr std::pair<const char*, const char*> kSame[] = {
      {"model", "model"}, {"max_tokens", "max_tokens"}, {"temperature", "temperature"}, {"top_p", "top_p"},
      {"top_k", "top_k"}, {"stream", "stream"},         {"stop_sequences", "stop"}};
  for (const auto& [name, chat_name] : kSame) {
    if (const Json* value = fields.get(name)) out[chat_name] = *value;
  }
  if (!fields.ok()) return fields.status();
  return out;
}

}  // namespace hearth
