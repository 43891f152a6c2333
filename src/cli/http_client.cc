// Plain sockets with poll(), so that a signal ends a wait; Beast takes the answer apart.
#include "cli/http_client.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cerrno>

namespace hearth {
namespace {

constexpr int kPollMilliseconds = 50;

struct Socket {
  int fd = -1;
  ~Socket() {
    if (fd >= 0) close(fd);
  }
};

Status connect_to(const Endpoint& endpoint, Socket& out) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(endpoint.host.c_str(), endpoint.port.c_str(), &hints, &found) != 0) {
    return Status(Code::kUnavailable, "the server's host is not known");
  }
  for (const addrinfo* a = found; a != nullptr && out.fd < 0; a = a->ai_next) {
    Socket candidate{socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol)};
    if (candidate.fd >= 0 && connect(candidate.fd, a->ai_addr, a->ai_addrlen) == 0) std::swap(out.fd, candidate.fd);
  }
  freeaddrinfo(found);
  if (out.fd < 0) return Status(Code::kUnavailable, "cannot connect to the server");
  return {};
}

}  // namespace

Result<int> HttpClient::post_json(std::string_view path, std::string_view body,
                                  const std::function<void(std::string_view)>& on_body) const {
  Socket socket;
  HEARTH_TRY(connect_to(endpoint_, socket));
  std::string request = cat("POST ", endpoint_.path, path, " HTTP/1.1\r\nHost: ", endpoint_.host, ":", endpoint_.port,
                            "\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ", body.size());
  if (!endpoint_.api_key.empty()) request += cat("\r\nAuthorization: Bearer ", endpoint_.api_key);
  request += cat("\r\n\r\n", body);
  for (std::string_view rest = request; !rest.empty();) {
    const ssize_t n = send(socket.fd, rest.data(), rest.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR && !stop_()) continue;
    if (n <= 0) return Status(Code::kUnavailable, "the server closed the connection");
    rest.remove_prefix(static_cast<size_t>(n));
  }

  namespace http = boost::beast::http;
  http::response_parser<http::string_body> parser;
  parser.eager(true);
  parser.body_limit(boost::none);
  std::string in;
  char buffer[16 << 10];
  while (!parser.is_done()) {
    if (stop_()) return Status(Code::kCancelled, "stopped");
    pollfd waiting{socket.fd, POLLIN, 0};
    if (poll(&waiting, 1, kPollMilliseconds) <= 0) continue;
    const ssize_t n = recv(socket.fd, buffer, sizeof buffer, 0);
    if (n < 0 && errno == EINTR) continue;
    boost::system::error_code error;
    if (n <= 0) {
      if (parser.got_some()) parser.put_eof(error);  // of nothing it would make an answer
      if (error || !parser.is_done()) return Status(Code::kUnavailable, "the server closed the connection");
      break;
    }
    in.append(buffer, static_cast<size_t>(n));
    while (!in.empty() && !parser.is_done()) {
      const size_t used = parser.put(boost::asio::buffer(in), error);
      in.erase(0, used);
      if (error == http::error::need_more || (!error && used == 0)) break;
      if (error) return Status(Code::kUnavailable, "the server's answer is not HTTP");
    }
    if (std::string& piece = parser.get().body(); !piece.empty()) {
      on_body(piece);
      piece.clear();
    }
  }
  return static_cast<int>(parser.get().result_int());
}

}  // namespace hearth
