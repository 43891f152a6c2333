// ApiKeys: who may use the API. Without keys, everybody.
#pragma once

#include <string>
#include <vector>

#include "server/http.h"

namespace hearth {

class ApiKeys {
 public:
  explicit ApiKeys(std::vector<std::string> keys) : keys_(std::move(keys)) {}
  // Looks at Authorization: Bearer, api-key and x-api-key. Takes the same time for every wrong key of a length.
  bool admits(const HttpRequest& request) const;

 private:
  std::vector<std::string> keys_;
};

}  // namespace hearth
