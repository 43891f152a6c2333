// ChatRequest: the body of POST /v1/chat/completions.
#pragma once

#include <nlohmann/json.hpp>

#include "api/generation_request.h"

namespace hearth {

struct ChatRequest : GenerationRequest {
  // Objects as the template reads them: `role` a word, `content` a string, arguments of tool calls parsed, no nulls;
  // all else as the client sent it.
  Json messages;
  bool add_generation_prompt = true;
  bool continue_final_message = false;  // the answer goes on where the last message ends
  Json documents;                       // objects, for templates that quote them; null: none
  Json template_variables;              // an object: what else the template may read
  ToolsRequest tools;
  ReasoningRequest reasoning;
};

Result<ChatRequest> parse_chat_request(const Json& body, const ApiLimits& limits);

}  // namespace hearth
