// Trims and collects; an empty source is an error and never an open server.
#include "cli/read_api_keys.h"

#include <cstdlib>
#include <fstream>
#include <string_view>

namespace hearth {
namespace {

constexpr std::string_view kSpace = " \t\r\n";

std::string trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(kSpace);
  return begin == text.npos ? "" : std::string(text.substr(begin, text.find_last_not_of(kSpace) + 1 - begin));
}

}  // namespace

Result<std::vector<std::string>> read_api_keys(const ApiKeySources& sources) {
  std::vector<std::string> keys;
  for (const std::string& key : sources.given) {
    if (trimmed(key).empty()) return invalid("--api-key is empty");
    keys.push_back(trimmed(key));
  }
  if (!sources.file.empty()) {
    std::ifstream lines(sources.file);
    if (!lines) return Status(Code::kNotFound, "--api-key-file cannot be read");
    const size_t before = keys.size();
    for (std::string line; std::getline(lines, line);) {
      if (const std::string key = trimmed(line); !key.empty() && key[0] != '#') keys.push_back(key);
    }
    if (keys.size() == before) return invalid("--api-key-file holds no key");
  }
  if (const char* set = std::getenv("HEARTH_API_KEY")) {
    std::string_view rest = set;
    while (true) {
      const size_t comma = rest.find(',');
      const std::string key = trimmed(rest.substr(0, comma));
      if (key.empty()) return invalid("HEARTH_API_KEY is set and holds an empty key; unset it to serve without keys");
      keys.push_back(key);
      if (comma == rest.npos) break;
      rest.remove_prefix(comma + 1);
    }
  }
  return keys;
}

}  // namespace hearth
