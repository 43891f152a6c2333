// Where an assistant's turn ends in a chat format: the control token that the template writes behind an answer. Files
// may call another token the end.
#pragma once

#include <cstdint>
#include <optional>

#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace hearth {

// None where the template writes no control token there, or refuses a plain conversation.
std::optional<int32_t> end_of_turn(const ChatTemplate& chat_template, const Tokenizer& tokenizer);

}  // namespace hearth
