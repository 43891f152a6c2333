// OpenAI's Responses: the body of POST /v1/responses as the same conversation in the words of chat completions.
#pragma once

#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/status.h"

namespace hearth {

struct ResponsesRequest {
  Json chat;                      // the body, without what `previous` said
  Json echo;                      // what the response repeats of the request
  std::string previous;           // previous_response_id; empty: none
  bool has_instructions = false;  // the first message
  bool store = true;
};

Result<ResponsesRequest> parse_responses_request(const Json& body);

}  // namespace hearth
