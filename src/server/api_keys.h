// ApiKeys: who may use the API. Without keys, everybody.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "server/http.h"

namespace hearth {

class ApiKeys {
 public:
  explicit ApiKeys(std::vector<std::string> keys) : keys_(std::move(keys)) {}
  bool empty() const { return keys_.empty(); }
  // Which key a request brings; none: no right one. Looks at Authorization: Bearer, api-key and x-api-key. Takes the
  // same time for every key of a length.
  std::optional<size_t> find(const HttpRequest& request) const;

 private:
  std::vector<std::string> keys_;
};

}  // namespace hearth
