// HttpConnection: one client's socket, its requests one after the other. All of it runs on the I/O thread.
#pragma once

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <list>
#include <optional>
#include <unordered_set>

#include "server/http_server.h"

namespace hearth {

class HttpConnection;

class HttpServer::Impl {
 public:
  Impl(const HttpLimits& limits_in, Handler handler_in) : limits(limits_in), handler(std::move(handler_in)) {}
  ~Impl();
  Status listen(const std::string& host, int port);
  int port() const { return acceptor_.local_endpoint().port(); }
  void run();
  void stop(Duration grace);

  // For the connections.
  const HttpLimits limits;
  const Handler handler;
  int64_t body_bytes = 0;              // held by requests that are being read
  std::array<char, 64 << 10> scratch;  // what a read fills before it is parsed: idle sockets hold no buffer
  std::list<HttpConnection*>& idle_list() { return idle_; }
  boost::asio::io_context& io() { return io_; }
  bool stopping() const { return stopping_; }
  void closed(const std::shared_ptr<HttpConnection>& connection);

 private:
  void accept();
  bool evict_idle();

  boost::asio::io_context io_{1};
  boost::asio::ip::tcp::acceptor acceptor_{io_};
  boost::asio::steady_timer retry_accept_{io_}, grace_{io_};
  std::list<HttpConnection*> idle_;  // that wait for a request, longest first
  std::unordered_set<std::shared_ptr<HttpConnection>> connections_;
  bool stopping_ = false;
};

class HttpConnection : public std::enable_shared_from_this<HttpConnection> {
 public:
  HttpConnection(HttpServer::Impl& server, boost::asio::ip::tcp::socket socket);
  void start();
  void close();
  bool idle() const { return idle_.has_value(); }

 private:
  friend class ExchangeImpl;
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;
  enum class Phase { kIdle, kHeader, kBody, kAnswer, kLinger };

  void enter(Phase phase);
  void arm(Duration timeout);
  void timed_out();

  void wait_readable();
  void readable();
  void parse();
  bool check_header();  // false: refused
  void hand_over();

  void refuse(int status, std::string_view message);
  void send_head(const HttpResponse& response, std::optional<size_t> length);
  void flush();
  void written();
  void answered();
  void release_body_bytes();

  HttpServer::Impl& server_;
  boost::asio::ip::tcp::socket socket_;
  boost::asio::steady_timer deadline_;
  Phase phase_ = Phase::kHeader;
  std::optional<std::list<HttpConnection*>::iterator> idle_;  // place in the server's list

  std::string in_;  // read, not parsed: a part of a head, or requests that came before the answer to the last one
  bool reading_ = false;
  int64_t linger_bytes_ = 0;
  std::optional<Parser> parser_;
  bool header_checked_ = false;
  int64_t body_bytes_ = 0;  // counted in the server's

  std::shared_ptr<class ExchangeImpl> exchange_;
  bool keep_alive_ = false, head_only_ = false, chunked_ = false, ended_ = false;
  std::string out_, writing_;  // next piece; the one on its way
  bool write_outstanding_ = false;
};

}  // namespace hearth
