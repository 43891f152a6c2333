// Anthropic's Messages: the body of POST /v1/messages as the same conversation in the words of chat completions.
#pragma once

#include "base/json.h"
#include "base/status.h"

namespace hearth {

// `counts_only`: the body of /v1/messages/count_tokens, which has no max_tokens.
Result<Json> chat_body_of_messages(const Json& body, bool counts_only = false);

}  // namespace hearth
