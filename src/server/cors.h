// Cors: which web pages of other origins may use the API from a browser. None, unless they are named.
#pragma once

#include <string>
#include <vector>

#include "server/http.h"

namespace hearth {

class Cors {
 public:
  Cors() = default;
  // As a browser says them, "https://example.org"; "*" is every page.
  explicit Cors(std::vector<std::string> origins) : origins_(std::move(origins)) {}
  // Gives the answer the headers that a browser asks for. True: the request is only the browser's question whether it
  // may send the real one, and these headers are the whole answer.
  bool add_headers(HttpRequest& request) const;

 private:
  std::vector<std::string> origins_;
};

}  // namespace hearth
