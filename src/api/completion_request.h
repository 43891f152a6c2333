// CompletionRequest: the body of POST /v1/completions.
#pragma once

#include <variant>

#include "api/generation_request.h"

namespace hearth {

using CompletionPrompt = std::variant<std::string, std::vector<int32_t>>;  // text, or token ids used as they are

struct CompletionRequest : GenerationRequest {
  std::vector<CompletionPrompt> prompts;
  bool echo = false;
  // Of text prompts: whether the model's own tokens go around them, and whether a control token's text is letters.
  bool add_special_tokens = true;
  bool split_special_tokens = false;
};

Result<CompletionRequest> parse_completion_request(const Json& body, const ApiLimits& limits);

}  // namespace hearth
