// Comparing keys without telling by the time taken how much of one was right.
#include "server/api_keys.h"

namespace hearth {
namespace {

bool equal_in_constant_time(std::string_view key, std::string_view given) {
  unsigned difference = key.size() == given.size() ? 0 : 1;
  for (size_t i = 0; i < given.size(); ++i) {
    difference |= static_cast<unsigned char>(given[i]) ^ static_cast<unsigned char>(i < key.size() ? key[i] : 0);
  }
  return difference == 0;
}

}  // namespace

bool ApiKeys::admits(const HttpRequest& request) const {
  if (keys_.empty()) return true;
  std::string_view given = request.header("authorization");
  constexpr std::string_view kScheme = "Bearer ";
  if (equal_ignoring_case(given.substr(0, kScheme.size()), kScheme)) {
    given.remove_prefix(kScheme.size());
  } else {
    given = request.header("api-key");
    if (given.empty()) given = request.header("x-api-key");
  }
  bool admitted = false;
  for (const std::string& key : keys_) admitted |= !key.empty() && equal_in_constant_time(key, given);
  return admitted;
}

}  // namespace hearth
