// Which HTTP status, type and code a Status becomes.
#include "api/errors.h"

#include <algorithm>

#include "api/json_writer.h"
#include "api/messages_writer.h"

namespace hearth {

std::string ApiError::body() const {
  if (anthropic) return messages_error_body(*this);
  std::string out;
  JsonWriter w(out);
  const auto text_or_null = [&](std::string_view name, const std::string& text) {
    w.key(name);
    text.empty() ? w.null() : w.value(text);
  };
  w.begin_object().key("error").begin_object().field("message", message).field("type", type);
  text_or_null("param", param);
  text_or_null("code", code);
  w.end_object().end_object();
  return out;
}

ApiError to_api_error(const Status& status) {
  ApiError out;
  out.message = status.message();
  out.param = status.param();
  out.retry_after_seconds = std::max<int64_t>(status.retry_after_seconds(), 1);
  switch (status.code()) {
    case Code::kInvalidArgument:
    case Code::kUnimplemented:
      out.http_status = 400;
      out.type = "invalid_request_error";
      out.code = status.code() == Code::kUnimplemented ? "unsupported" : "invalid_value";
      break;
    case Code::kNotFound:
      out.http_status = 404;
      out.type = "invalid_request_error";
      out.code = "not_found";
      break;
    case Code::kResourceExhausted:
    case Code::kDeadlineExceeded:
      out.http_status = 429;
      out.type = "rate_limit_error";
      out.code = status.code() == Code::kResourceExhausted ? "server_busy" : "deadline_exceeded";
      out.retry = true;
      break;
    case Code::kTimedOut:
      out.http_status = 408;
      out.type = "timeout_error";
      out.code = "deadline_exceeded";
      break;
    case Code::kUnavailable:
      out.http_status = 503;
      out.code = "unavailable";
      out.retry = true;
      break;
    case Code::kOk:
    case Code::kCancelled:
    case Code::kInternal:
      out.http_status = 500;
      out.code = "internal_error";
      break;
  }
  return out;
}

ApiError context_length_exceeded(std::string message, std::string_view param) {
  return {400, std::move(message), "invalid_request_error", std::string(param), "context_length_exceeded"};
}

ApiError model_not_found() {
  return {404,
          "the model does not exist here; GET /v1/models lists those that do",
          "invalid_request_error",
          "model",
          "model_not_found",
          false};
}

ApiError invalid_api_key() {
  return {401, "the API key is missing or wrong", "authentication_error", "", "invalid_api_key", false};
}

ApiError http_error(int http_status, std::string message) {
  return {http_status, std::move(message), "invalid_request_error", "", "", false};
}

}  // namespace hearth
