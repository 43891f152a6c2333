// ChatRequest: the body of POST /v1/chat/completions.
#pragma once

#include "api/generation_request.h"

namespace hearth {

struct ChatMessage {
  std::string role;  // system, user or assistant
  std::string content;
};

struct ChatRequest : GenerationRequest {
  std::vector<ChatMessage> messages;
  bool add_generation_prompt = true;
};

Result<ChatRequest> parse_chat_request(const Json& body, const ApiLimits& limits);

}  // namespace hearth
