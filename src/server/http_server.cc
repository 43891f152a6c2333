// Listening, the list of connections and their number; a connection is in http_connection.cc.
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <new>
#include <thread>

#include "base/log.h"
#include "server/http_connection.h"

namespace hearth {

using boost::asio::ip::tcp;

constexpr auto kLastWords = std::chrono::seconds(1);  // for the 503s of a server that stops

namespace {

// Its address; whoever has an IPv6 address has 2^64 of them.
std::string client_of(const tcp::socket& socket) {
  boost::system::error_code error;
  const boost::asio::ip::address address = socket.remote_endpoint(error).address();
  if (error || address.is_v4()) return error ? "" : address.to_string();
  const auto bytes = address.to_v6().to_bytes();
  const size_t kept = address.to_v6().is_v4_mapped() ? 16 : 8;
  return std::string(bytes.begin(), bytes.begin() + kept);
}

}  // namespace

Status HttpServer::Impl::listen(const std::string& host, int port) {
  if (host.empty()) return invalid("the host to listen on is empty; 0.0.0.0 or :: is every address");
  boost::system::error_code error;
  tcp::resolver resolver(io_);
  const auto found = resolver.resolve(host, std::to_string(port), tcp::resolver::passive, error);
  if (error || found.empty()) return invalid("the host to listen on is not known");
  const tcp::endpoint endpoint = *found.begin();
  acceptor_.open(endpoint.protocol(), error);
  if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor_.bind(endpoint, error);
  if (!error) acceptor_.listen(1024, error);
  if (!error) acceptor_.non_blocking(true, error);
  if (error) return Status(Code::kUnavailable, cat("cannot listen on port ", port, ": ", error.message()));
  return {};
}

void HttpServer::Impl::accept() {
  acceptor_.async_accept([this](boost::system::error_code error, tcp::socket socket) {
    accepting_ = false;
    if (stopping_ || error == boost::asio::error::operation_aborted) return;
    if (error) {
      // Out of descriptors, most likely: the backlog holds newcomers until some are free again.
      retry_accept_.expires_after(std::chrono::milliseconds(100));
      retry_accept_.async_wait([this](boost::system::error_code stopped) {
        if (!stopped) accept();
      });
      accepting_ = true;
      return;
    }
    take(std::move(socket));
    accept();
  });
  accepting_ = true;
}

void HttpServer::Impl::take(tcp::socket socket) {
  const std::string client = client_of(socket);
  const auto known = num_of_client_.find(client);
  const bool has_its_share = known != num_of_client_.end() && known->second >= limits.max_client_connections;
  if (has_its_share && !give_way(&client)) return;
  if (num_connections() >= limits.max_connections && !give_way(nullptr)) return;  // all are busy with requests
  const auto tls = [this] {
    std::lock_guard lock(tls_mutex_);
    return tls_;
  }();
  const auto connection = std::make_shared<HttpConnection>(*this, std::move(socket), client, tls.get());
  Connections& first = connections(connection->phase());
  const auto place = first.insert(first.end(), connection);
  ++num_of_client_[client];
  connection->start(place);
}

// Sockets that ask for nothing must not keep others out: those whose answer is given give way first, then those that
// begin, wait for a request or for its rest; the one that has waited longest of each. With a client, one of its own.
bool HttpServer::Impl::give_way(const std::string* client) {
  for (const HttpPhase phase :
       {HttpPhase::kLinger, HttpPhase::kHandshake, HttpPhase::kIdle, HttpPhase::kHead, HttpPhase::kBody}) {
    for (const auto& waiting : connections(phase)) {
      if (client != nullptr && waiting->client() != *client) continue;
      const auto oldest = waiting;
      oldest->close();
      return true;
    }
  }
  return false;
}

int64_t HttpServer::Impl::num_connections() const {
  size_t out = 0;
  for (const Connections& list : connections_) out += list.size();
  return static_cast<int64_t>(out);
}

// The function may close connections.
template <typename F>
void HttpServer::Impl::for_each_connection(F&& f) {
  std::vector<std::shared_ptr<HttpConnection>> open;
  for (const Connections& list : connections_) open.insert(open.end(), list.begin(), list.end());
  for (const auto& connection : open) f(*connection);
}

void HttpServer::Impl::run() {
  while (true) {
    try {
      if (!accepting_ && !stopping_) accept();
      io_.run();
      return;
    } catch (const std::bad_alloc&) {
      // Connections deal with theirs; this was of the listener. What is in work will free some.
      log_warning("out of memory: a connection was dropped");
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
}

void HttpServer::Impl::stop(Duration grace) {
  boost::asio::post(io_, [this, grace] {
    if (stopping_) return;
    stopping_ = true;
    boost::system::error_code ignored;
    acceptor_.close(ignored);
    retry_accept_.cancel();
    for (const HttpPhase phase : {HttpPhase::kHandshake, HttpPhase::kIdle}) {
      while (!connections(phase).empty()) {
        const auto waits = connections(phase).front();
        waits->close();
      }
    }
    if (num_connections() == 0) return io_.stop();
    grace_.expires_after(grace);
    grace_.async_wait([this](boost::system::error_code cancelled) {
      if (cancelled) return;
      for_each_connection([](HttpConnection& connection) { connection.abandon(); });
      grace_.expires_after(kLastWords);
      grace_.async_wait([this](boost::system::error_code again) {
        if (!again) io_.stop();
      });
    });
  });
}

void HttpServer::Impl::use_tls(std::shared_ptr<const TlsContext> tls) {
  std::lock_guard lock(tls_mutex_);
  tls_ = std::move(tls);
}

void HttpServer::Impl::closed(const std::string& client) {
  const auto known = num_of_client_.find(client);
  if (--known->second == 0) num_of_client_.erase(known);
  if (stopping_ && num_connections() == 0) io_.stop();
}

HttpServer::Impl::~Impl() {
  for_each_connection([](HttpConnection& connection) { connection.close(); });
}

HttpServer::HttpServer(const HttpLimits& limits, Handler handler, Gate gate)
    : impl_(std::make_unique<Impl>(limits, std::move(handler), std::move(gate))) {}
HttpServer::~HttpServer() = default;
Status HttpServer::listen(const std::string& host, int port) { return impl_->listen(host, port); }
void HttpServer::use_tls(std::shared_ptr<const TlsContext> tls) { impl_->use_tls(std::move(tls)); }
int HttpServer::port() const { return impl_->port(); }
void HttpServer::run() { impl_->run(); }
void HttpServer::stop(Duration grace) { impl_->stop(grace); }

}  // namespace hearth
