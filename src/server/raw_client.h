// RawClient: a blocking socket for tests, that can send what no HTTP library would.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace hearth {

class RawClient {
 public:
  // `from` is one of the loopback's addresses, for tests of several clients.
  explicit RawClient(int port, const char* from = nullptr) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    if (from != nullptr) {
      inet_pton(AF_INET, from, &address.sin_addr);
      bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address);
    }
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address);
  }
  RawClient(RawClient&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  ~RawClient() {
    if (fd_ >= 0) ::close(fd_);
  }

  void send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return;
      bytes.remove_prefix(static_cast<size_t>(n));
    }
  }
  // Until the mark has come, the server closes, or ten seconds pass without a byte.
  std::string read_until(std::string_view mark) {
    std::string got;
    char buffer[4096];
    while (mark.empty() || got.find(mark) == got.npos) {
      if (!readable(std::chrono::seconds(10))) break;
      const ssize_t n = recv(fd_, buffer, sizeof buffer, 0);
      if (n <= 0) break;
      got.append(buffer, static_cast<size_t>(n));
    }
    return got;
  }
  std::string read_all() { return read_until({}); }
  // Says that nothing more will be sent; what the server sends can still be read.
  void end_input() { ::shutdown(fd_, SHUT_WR); }
  // Closes so that the server gets a reset.
  void reset() {
    const linger now{1, 0};
    setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    ::close(std::exchange(fd_, -1));
  }
  // All until the server closes; nullopt where it does not: so long passed without a byte.
  std::optional<std::string> read_to_end(std::chrono::milliseconds patience) {
    std::string got;
    while (true) {
      if (!readable(patience)) return std::nullopt;
      const std::string more = read_some(64 << 10);
      if (more.empty()) return got;
      got += more;
    }
  }
  // At most so many bytes, waiting for the first; empty once the server has closed.
  std::string read_some(size_t most) {
    std::string got(most, '\0');
    const ssize_t n = recv(fd_, got.data(), most, 0);
    got.resize(n > 0 ? static_cast<size_t>(n) : 0);
    return got;
  }
  // Whether the server still holds its end open.
  bool is_open() const {
    char c;
    return recv(fd_, &c, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
  }

 protected:
  int fd() const { return fd_; }
  // Whether there is something to read in time; a signal does not count.
  bool readable(std::chrono::milliseconds patience) const {
    pollfd p{fd_, POLLIN, 0};
    while (true) {
      const int ready = poll(&p, 1, static_cast<int>(patience.count()));
      if (ready >= 0 || errno != EINTR) return ready == 1;
    }
  }

 private:
  int fd_;
};

}  // namespace hearth
