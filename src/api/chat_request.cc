// Messages (content as text or as text parts) and chat's own spelling of logprobs.
#include "api/chat_request.h"

#include <algorithm>

namespace hearth {
namespace {

constexpr int64_t kMaxArgumentsBytes = 32 << 20;  // of all trees that tool calls' arguments become
constexpr std::string_view kRoles[] = {"system", "developer", "user", "assistant", "tool"};

// An assistant's message may be without, as one that only calls tools is.
void read_content(Fields& fields, bool may_be_absent, std::string& out) {
  const Json* content = fields.get("content");
  if (content == nullptr) {
    if (!may_be_absent) fields.refuse("content", "is required");
    return;
  }
  if (content->is_string()) {
    out = content->get_ref<const std::string&>();
    return;
  }
  if (!content->is_array()) return fields.refuse("content", "must be a string or a list of parts");
  bool first = true;
  for (const Json& part : *content) {
    if (!part.is_object()) return fields.refuse("content", "must hold objects");
    Fields inner(part, fields.full_name("content"));
    std::string type, text;
    inner.read("type", type);
    inner.read("text", text);
    if (inner.ok() && type != "text") inner.refuse("", "may hold parts of type text only");
    if (inner.ok() && inner.get("text") == nullptr) inner.refuse("text", "is required");
    if (!inner.ok()) return fields.fail(inner.status());
    if (!first) out += '\n';
    first = false;
    out += text;
  }
}

// OpenAI's arguments are JSON in a string; templates print them from the object.
Status parse_arguments(Json& call, const std::string& path, int64_t& bytes_left) {
  if (!call.is_object()) return invalid(path, " must be an object").with_param(path);
  const auto function = call.find("function");
  const std::string place = path + ".function";
  if (function == call.end() || !function->is_object()) return invalid(place, " must be an object").with_param(place);
  Fields fields(*function, place);
  std::string name;
  fields.read("name", name);
  if (fields.ok() && name.empty()) fields.refuse("name", "is required");
  if (!fields.ok()) return fields.status();
  Json& arguments = (*function)["arguments"];
  if (arguments.is_null() || arguments == "") arguments = Json::object();
  if (arguments.is_string()) {
    auto parsed = parse_json(arguments.get_ref<const std::string&>(), {.bytes_left = &bytes_left});
    if (parsed.ok()) arguments = std::move(parsed).value();
  }
  if (arguments.is_object()) return {};
  return invalid(place, ".arguments must be a JSON object").with_param(place + ".arguments");
}

Status read_tool_calls(Json& message, const std::string& path, int64_t& bytes_left) {
  const auto calls = message.find("tool_calls");
  if (calls == message.end()) return {};
  if (!calls->is_array()) return invalid(path, ".tool_calls must be a list").with_param(path + ".tool_calls");
  for (size_t i = 0; i < calls->size(); ++i) {
    HEARTH_TRY(parse_arguments((*calls)[i], cat(path, ".tool_calls[", i, "]"), bytes_left));
  }
  if (calls->empty()) message.erase("tool_calls");
  return {};
}

// Clients send back what they were given, with nulls for what was not in it; a template asks whether a field is there.
Json template_message(const Json& message, std::string role, std::string content) {
  Json out = Json::object();
  auto& items = out.get_ref<Json::object_t&>();  // appended to: a lookup in it is linear
  for (const auto& [key, value] : message.get_ref<const Json::object_t&>()) {
    if (!value.is_null() && key != "role" && key != "content") items.emplace_back(key, value);
  }
  items.emplace_back("role", std::move(role));
  items.emplace_back("content", std::move(content));
  return out;
}

void read_messages(Fields& fields, Json& out) {
  out = Json::array();
  const Json* messages = fields.get("messages");
  if (messages == nullptr) return fields.refuse("messages", "is required");
  if (!messages->is_array() || messages->empty()) return fields.refuse("messages", "must be a list, not empty");
  int64_t arguments_bytes_left = kMaxArgumentsBytes;
  for (size_t i = 0; i < messages->size(); ++i) {
    const std::string path = cat("messages[", i, "]");
    const Json& message = (*messages)[i];
    if (!message.is_object()) return fields.refuse(path, "must be an object");
    Fields inner(message, path);
    std::string role, content;
    inner.read("role", role);
    if (std::find(std::begin(kRoles), std::end(kRoles), role) == std::end(kRoles)) {
      inner.refuse("role", "must be system, developer, user, assistant or tool");
    }
    if (role == "developer") role = "system";  // OpenAI's newer word for it; templates know the older
    for (const std::string_view name : {"function_call", "audio"}) {
      if (const Json* value = inner.get(name); value != nullptr && !value->empty()) {
        inner.refuse(name, "is not supported");
      }
    }
    read_content(inner, role == "assistant", content);
    if (!inner.ok()) return fields.fail(inner.status());
    Json one = template_message(message, std::move(role), std::move(content));
    if (Status status = read_tool_calls(one, path, arguments_bytes_left); !status.ok())
      return fields.fail(std::move(status));
    out.push_back(std::move(one));
  }
}

void read_documents(Fields& fields, Json& out) {
  const Json* documents = fields.get("documents");
  if (documents == nullptr) return;
  if (!documents->is_array()) return fields.refuse("documents", "must be a list of objects");
  for (const Json& document : *documents) {
    if (!document.is_object()) return fields.refuse("documents", "must be a list of objects");
  }
  if (!documents->empty()) out = *documents;
}

// What the server itself tells a template, and tokens, whose text a template may write as control tokens, are not the
// client's to name.
void read_template_variables(Fields& fields, Json& out) {
  constexpr std::string_view kOurs[] = {
      "messages", "tools", "documents", "add_generation_prompt", "chat_template", "tokenize", "continue_final_message"};
  out = Json::object();
  const Json* variables = fields.get("chat_template_kwargs");
  if (variables == nullptr) return;
  if (!variables->is_object()) return fields.refuse("chat_template_kwargs", "must be an object");
  for (const auto& [name, value] : variables->get_ref<const Json::object_t&>()) {
    if (name.ends_with("_token") || std::find(std::begin(kOurs), std::end(kOurs), name) != std::end(kOurs)) {
      return fields.refuse("chat_template_kwargs", "must not name tokens, or what the request has fields for");
    }
  }
  out = *variables;
}

void read_prompt_end(Fields& fields, ChatRequest& out) {
  fields.read("continue_final_message", out.continue_final_message);
  if (out.continue_final_message) out.add_generation_prompt = false;
  fields.read("add_generation_prompt", out.add_generation_prompt);
  if (!out.continue_final_message) return;
  if (out.add_generation_prompt) {
    fields.refuse("continue_final_message", "cannot be true beside add_generation_prompt");
  }
  if (fields.ok() && out.messages.back()["content"] == "") {
    fields.refuse("continue_final_message", "needs text in the last message");
  }
}

}  // namespace

Result<ChatRequest> parse_chat_request(const Json& body, const ApiLimits& limits) {
  ChatRequest out;
  Fields fields(body);
  read_messages(fields, out.messages);
  read_generation_fields(fields, limits, out);
  read_prompt_end(fields, out);
  read_documents(fields, out.documents);
  read_template_variables(fields, out.template_variables);
  read_tools(fields, out.tools);
  read_reasoning(fields, out.reasoning);
  bool logprobs = false, echo = false;
  fields.read("logprobs", logprobs);
  if (logprobs) out.sampling.logprobs = 0;
  if (fields.get("top_logprobs") != nullptr) {
    int32_t top = 0;
    fields.read("top_logprobs", top, 0, static_cast<int32_t>(limits.max_logprobs));
    if (!logprobs && top > 0) fields.refuse("top_logprobs", "needs logprobs to be true");
    if (logprobs) out.sampling.logprobs = top;
  }
  fields.read("echo", echo);
  if (echo) fields.refuse("echo", "is not supported");
  // What a template's text becomes is not for a request to say.
  bool add_special = false, split_special = true;
  fields.read("add_special_tokens", add_special);
  if (add_special) fields.refuse("add_special_tokens", "is not supported: the chat template writes them");
  fields.read("split_special_tokens", split_special);
  if (!split_special) fields.refuse("split_special_tokens", "is not supported: messages name no control tokens");
  if (out.max_tokens == 0) fields.refuse("max_tokens", "must be at least 1");
  if (!fields.ok()) return fields.status();
  return out;
}

}  // namespace hearth
