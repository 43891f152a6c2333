// What every architecture's GGUF metadata share: rotation, and the refusal of what nobody read.
#pragma once

#include <string_view>

#include "models/config.h"

namespace hearth {

// `architecture`: the prefix of its keys, "llama".
Result<RopeConfig> read_gguf_rope(const Checkpoint& checkpoint, std::string_view architecture, int64_t rotary,
                                  int64_t max_positions);

// To be called when everything was read: a key of the architecture or of the tokenizer that was not, and that is not
// known to change nothing, is refused by its name.
Status refuse_unread_keys(const GgufFile& file, std::string_view architecture);

}  // namespace hearth
