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

std::optional<size_t> ApiKeys::find(const HttpRequest& request) const {
  std::string_view given = request.header("authorization");
  constexpr std::string_view kScheme = "Bearer ";
  if (equal_ignoring_case(given.substr(0, kScheme.size()), kScheme)) {
    given.remove_prefix(kScheme.size());
  } else {
    given = request.header("api-key");
    if (given.empty()) given = request.header("x-api-key");
  }
  std::optional<size_t> found;
  for (size_t i = 0; i < keys_.size(); ++i) {
    if (equal_in_constant_time(keys_[i], given) && !keys_[i].empty()) found = i;
  }
  return found;
}

}  // namespace hearth
