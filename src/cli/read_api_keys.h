// The server's API keys, from the command line, a file and the environment.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"

namespace hearth {

// All of them together: those given, the lines of the file (where there is one; blank lines and lines with # in front
// do not count), and HEARTH_API_KEY, which may hold several with commas between them. An empty one is refused: whoever
// set it meant to have a key.
Result<std::vector<std::string>> read_api_keys(const std::vector<std::string>& given, const std::string& file);

}  // namespace hearth
