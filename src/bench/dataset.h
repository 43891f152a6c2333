// Prompts of real conversations: the first exchange of each entry of a ShareGPT JSON file.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "bench/load.h"

namespace hearth {

// Reads [{"conversations": [{"from", "value"}, ...]}, ...]. Entries without a human turn followed by a reply are passed
// over. No tokenizer is at hand for every server, so lengths are counted at four bytes a token; entries outside [4,
// max_tokens] on either side are left out. kInvalidArgument where the file is not of that form or nothing is left.
Result<std::vector<Prompt>> read_sharegpt(const std::string& path, int64_t max_tokens);

// Of a prompt read there, counted as above.
int64_t tokens_of(const Prompt& prompt);

}  // namespace hearth
