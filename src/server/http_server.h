// HttpServer: HTTP/1.1 on one I/O thread, with a limit and a timeout on everything a client can make it hold.
// Methods: Boost.Asio for the sockets, Beast's parser for requests (RFC 9112; both a length and chunked is refused).
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/status.h"
#include "server/http.h"

namespace hearth {

struct HttpLimits {
  int64_t max_connections = 4096;
  int64_t max_header_bytes = 32 << 10;
  int64_t max_body_bytes = 32 << 20;
  int64_t max_body_bytes_total = 512 << 20;  // of all requests that are being read
  Duration header_timeout = std::chrono::seconds(20);
  Duration body_timeout = std::chrono::seconds(60);
  Duration idle_timeout = std::chrono::seconds(75);   // between requests
  Duration write_timeout = std::chrono::seconds(60);  // of one piece
};

class HttpServer {
 public:
  // Runs on the I/O thread: must not wait.
  using Handler = std::function<void(HttpRequest&&, std::shared_ptr<Exchange>)>;

  HttpServer(const HttpLimits& limits, Handler handler);
  ~HttpServer();
  // Binds; port 0 takes a free one. Connections wait in the backlog until run().
  Status listen(const std::string& host, int port);
  int port() const;
  // Serves on the calling thread until stop().
  void run();
  // Any thread. No new connections; idle ones close, busy ones after their answer, the rest when the grace is over.
  void stop(Duration grace);

  class Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace hearth
