// HttpServer: HTTP/1.1 on one I/O thread, with a limit and a timeout on everything a client can make it hold.
// Methods: Boost.Asio for the sockets, Beast's parser for requests (RFC 9112; both a length and chunked is refused).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/status.h"
#include "server/http.h"
#include "server/tls.h"

namespace hearth {

struct HttpLimits {
  int64_t max_connections = 4096;
  int64_t max_client_connections = 3072;  // of one client (an address)
  int64_t max_header_bytes = 32 << 10;
  int64_t max_body_bytes = 32 << 20;
  // Of all requests that are being read or wait to be parsed, and of those of one client.
  int64_t max_total_bytes = 512 << 20;
  int64_t max_client_bytes = 256 << 20;
  Duration header_timeout = std::chrono::seconds(20);
  Duration idle_timeout = std::chrono::seconds(75);  // between requests
  // A body that is being read, and an answer that a client is slow to take, must move so many bytes in each of these
  // times: a steady transfer may take as long as it needs.
  int64_t progress_bytes = 64 << 10;
  Duration body_timeout = std::chrono::seconds(60);
  Duration write_timeout = std::chrono::seconds(60);
  Duration answer_timeout = std::chrono::hours(1);  // from the request to the answer's first byte, and between bytes
};

class HttpServer {
 public:
  // Runs on the I/O thread: must not wait.
  using Handler = std::function<void(HttpRequest&&, std::shared_ptr<Exchange>)>;

  // Looks at a request's head before its body is read, and fills in its label; an answer refuses it.
  using Gate = std::function<std::optional<HttpResponse>(HttpRequest&)>;

  HttpServer(const HttpLimits& limits, Handler handler, Gate gate = {});
  ~HttpServer();
  // Of connections from now on; any thread. Without it they are plain.
  void use_tls(std::shared_ptr<const TlsContext> tls);
  // Binds; port 0 takes a free one. Connections wait in the backlog until run().
  Status listen(const std::string& host, int port);
  int port() const;
  // Serves on the calling thread until stop().
  void run();
  // Any thread. No new connections; idle ones close, busy ones after their answer. Requests without an answer when the
  // grace is over get a 503; a second later whatever is left is cut.
  void stop(Duration grace);

  class Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace hearth
