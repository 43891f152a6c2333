// Answers of /v1/messages: content blocks, whole or as events.
#pragma once

#include "api/answer_writer.h"

namespace hearth {

std::unique_ptr<AnswerWriter> make_messages_writer(std::string id, std::string model);
// {"type": "error", ...} with Anthropic's names.
std::string messages_error_body(const ApiError& error);

}  // namespace hearth
