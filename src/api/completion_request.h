// CompletionRequest: the body of POST /v1/completions.
#pragma once

#include <variant>

#include "api/generation_request.h"

namespace hearth {

using CompletionPrompt = std::variant<std::string, std::vector<int32_t>>;  // text, or token ids used as they are

struct CompletionRequest : GenerationRequest {
  std::vector<CompletionPrompt> prompts;
  bool echo = false;
  bool add_special_tokens = true;  // to text prompts
};

Result<CompletionRequest> parse_completion_request(const Json& body, const ApiLimits& limits);

}  // namespace hearth
