// ApiError: an error as OpenAI's clients read it, with the HTTP status that goes with it.
#pragma once

#include <string>

#include "base/status.h"

namespace hearth {

struct ApiError {
  int http_status = 500;
  std::string message;
  std::string type = "server_error";
  std::string param;  // empty: null
  std::string code;   // empty: null
  // Whether the same request can do better later; openai-python reads it from x-should-retry.
  bool retry = false;
  int64_t retry_after_seconds = 1;  // with 429 and 503

  bool anthropic = false;  // how it is spelled

  std::string body() const;  // {"error":{...}}
};

ApiError to_api_error(const Status& status);
ApiError context_length_exceeded(std::string message, std::string_view param);
ApiError model_not_found();
ApiError invalid_api_key();
// Errors of HTTP itself: 404 of a path, 405, 408, 413, 415, 431.
ApiError http_error(int http_status, std::string message);

}  // namespace hearth
