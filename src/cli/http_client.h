// HttpClient: one blocking HTTP/1.1 request a connection, its answer handed over piece by piece. For `hearth chat`.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "bench/endpoint.h"

namespace hearth {

class HttpClient {
 public:
  // `stop` is looked at while waiting: once true, the connection closes and the call ends as kCancelled.
  HttpClient(Endpoint endpoint, std::function<bool()> stop) : endpoint_(std::move(endpoint)), stop_(std::move(stop)) {}

  // The HTTP status; the body goes to `on_body` as it comes.
  Result<int> post_json(std::string_view path, std::string_view body,
                        const std::function<void(std::string_view)>& on_body) const;

 private:
  const Endpoint endpoint_;
  const std::function<bool()> stop_;
};

}  // namespace hearth
