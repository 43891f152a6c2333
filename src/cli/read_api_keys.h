// The server's API keys, from the command line, a file and the environment.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"

namespace hearth {

struct ApiKeySources {
  std::vector<std::string> given;
  std::string file;  // a key a line; blank lines and lines with # in front do not count. Empty: none
};

// All of them together, and HEARTH_API_KEY, which may hold several with commas between them. An empty one is refused:
// whoever set it meant to have a key.
Result<std::vector<std::string>> read_api_keys(const ApiKeySources& sources);

}  // namespace hearth
