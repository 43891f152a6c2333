// Listening, the list of connections and their number; a connection is in http_connection.cc.
#include <algorithm>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>

#include "base/log.h"
#include "server/http_connection.h"

namespace hearth {

using boost::asio::ip::tcp;

Status HttpServer::Impl::listen(const std::string& host, int port) {
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
    if (stopping_) return;
    if (error == boost::asio::error::operation_aborted) return;
    if (error) {
      // Out of descriptors, most likely: the backlog holds newcomers until some are free again.
      retry_accept_.expires_after(std::chrono::milliseconds(100));
      retry_accept_.async_wait([this](boost::system::error_code stopped) {
        if (!stopped) accept();
      });
      return;
    }
    if (static_cast<int64_t>(connections_.size()) >= limits.max_connections && !evict_idle()) {
      socket.close(error);  // all are busy with requests
    } else {
      auto connection = std::make_shared<HttpConnection>(*this, std::move(socket));
      connections_.insert(connection);
      connection->start();
    }
    accept();
  });
}

// Sockets that send nothing must not keep others out: the one that has waited longest gives way.
bool HttpServer::Impl::evict_idle() {
  if (idle_.empty()) return false;
  const std::shared_ptr<HttpConnection> oldest = idle_.front()->shared_from_this();
  oldest->close();
  return true;
}

void HttpServer::Impl::run() {
  accept();
  io_.run();
}

void HttpServer::Impl::stop(Duration grace) {
  boost::asio::post(io_, [this, grace] {
    if (stopping_) return;
    stopping_ = true;
    boost::system::error_code ignored;
    acceptor_.close(ignored);
    retry_accept_.cancel();
    const auto open = connections_;  // closing changes the set
    for (const auto& connection : open) {
      if (connection->idle()) connection->close();
    }
    if (connections_.empty()) return io_.stop();
    grace_.expires_after(grace);
    grace_.async_wait([this](boost::system::error_code cancelled) {
      if (!cancelled) io_.stop();
    });
  });
}

void HttpServer::Impl::closed(const std::shared_ptr<HttpConnection>& connection) {
  connections_.erase(connection);
  if (stopping_ && connections_.empty()) io_.stop();
}

HttpServer::Impl::~Impl() {
  const auto open = connections_;
  for (const auto& connection : open) connection->close();
}

HttpServer::HttpServer(const HttpLimits& limits, Handler handler)
    : impl_(std::make_unique<Impl>(limits, std::move(handler))) {}
HttpServer::~HttpServer() = default;
Status HttpServer::listen(const std::string& host, int port) { return impl_->listen(host, port); }
int HttpServer::port() const { return impl_->port(); }
void HttpServer::run() { impl_->run(); }
void HttpServer::stop(Duration grace) { impl_->stop(grace); }

}  // namespace hearth
