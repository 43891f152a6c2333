// Messages (content as text or as text parts) and chat's own spelling of logprobs.
#include "api/chat_request.h"

#include <nlohmann/json.hpp>

namespace hearth {
namespace {

void read_content(Fields& fields, std::string& out) {
  const Json* content = fields.get("content");
  if (content == nullptr) return fields.refuse("content", "is required");
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

void read_messages(Fields& fields, std::vector<ChatMessage>& out) {
  const Json* messages = fields.get("messages");
  if (messages == nullptr) return fields.refuse("messages", "is required");
  if (!messages->is_array() || messages->empty()) return fields.refuse("messages", "must be a list, not empty");
  for (size_t i = 0; i < messages->size(); ++i) {
    const std::string path = cat("messages[", i, "]");
    const Json& message = (*messages)[i];
    if (!message.is_object()) return fields.refuse(path, "must be an object");
    Fields inner(message, path);
    ChatMessage one;
    inner.read("role", one.role);
    if (one.role == "developer") one.role = "system";  // OpenAI's newer word for it; templates know the older
    if (one.role != "system" && one.role != "user" && one.role != "assistant") {
      inner.refuse("role", "must be system, developer, user or assistant");
    }
    for (const std::string_view name : {"tool_calls", "function_call", "audio"}) {
      if (const Json* value = inner.get(name); value != nullptr && !value->empty()) {
        inner.refuse(name, "is not supported");
      }
    }
    read_content(inner, one.content);
    if (!inner.ok()) return fields.fail(inner.status());
    out.push_back(std::move(one));
  }
}

}  // namespace

Result<ChatRequest> parse_chat_request(const Json& body, const ApiLimits& limits) {
  ChatRequest out;
  Fields fields(body);
  read_messages(fields, out.messages);
  read_generation_fields(fields, limits, out);
  fields.read("add_generation_prompt", out.add_generation_prompt);
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
  if (out.max_tokens == 0) fields.refuse("max_tokens", "must be at least 1");
  if (!fields.ok()) return fields.status();
  return out;
}

}  // namespace hearth
