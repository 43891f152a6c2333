// A connection's life: idle, head, body, answer, and again; or linger, so that a refusal is read before the close.
#include "server/http_connection.h"

#include <boost/asio/dispatch.hpp>
#include <boost/asio/write.hpp>
#include <charconv>

#include "api/errors.h"

namespace hearth {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;

namespace {

constexpr size_t kMaxPipelined = 64 << 10;     // bytes kept beyond the request in work
constexpr int64_t kMaxLingerBytes = 64 << 20;  // read and dropped after a refusal
constexpr auto kLingerTimeout = std::chrono::seconds(2);

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

}  // namespace

// Survives its connection, so that the engine's and the workers' late calls find somebody at home.
class ExchangeImpl final : public Exchange, public std::enable_shared_from_this<ExchangeImpl> {
 public:
  ExchangeImpl(asio::io_context& io, std::shared_ptr<HttpConnection> connection)
      : io_(io), connection_(std::move(connection)) {}

  void reply(HttpResponse response) override {
    asio::dispatch(io_, [self = shared_from_this(), response = std::move(response)] {
      const auto connection = self->connection_;
      if (connection == nullptr || connection->ended_) return;
      connection->send_head(response, response.body.size());
      if (!connection->head_only_) connection->out_ += response.body;
      connection->ended_ = true;
      connection->flush();
    });
  }
  void drive(std::shared_ptr<AnswerDriver> driver) override {
    asio::dispatch(io_, [self = shared_from_this(), driver = std::move(driver)] {
      if (self->connection_ == nullptr) return driver->gone();
      self->driver_ = driver;
      self->advance();
    });
  }
  void wake() override {
    asio::post(io_, [self = shared_from_this()] { self->advance(); });
  }

  void begin(HttpResponse head) override {
    if (connection_ != nullptr) connection_->send_head(head, std::nullopt);
  }
  void write(std::string_view piece, bool last) override {
    if (connection_ == nullptr) return;
    std::string& out = connection_->out_;
    if (connection_->chunked_ && !piece.empty()) {
      char size[20];
      out.append(size, std::to_chars(size, size + sizeof size, piece.size(), 16).ptr);
      out += cat("\r\n", piece, "\r\n");
    } else {
      out += piece;
    }
    if (connection_->chunked_ && last) out += "0\r\n\r\n";
    connection_->ended_ = last;
    connection_->flush();
  }

  void advance() {
    const auto driver = driver_;
    if (driver && connection_ && !connection_->write_outstanding_ && !connection_->ended_) driver->advance(*this);
  }
  // The connection lets go: because the answer is complete, or because the client left.
  void release(bool client_gone) {
    connection_.reset();
    if (const auto driver = std::move(driver_); driver && client_gone) driver->gone();
  }

 private:
  asio::io_context& io_;
  std::shared_ptr<HttpConnection> connection_;
  std::shared_ptr<AnswerDriver> driver_;
};

HttpConnection::HttpConnection(HttpServer::Impl& server, asio::ip::tcp::socket socket)
    : server_(server), socket_(std::move(socket)), deadline_(server.io()) {}

void HttpConnection::start() {
  error_code ignored;
  socket_.non_blocking(true, ignored);
  socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
  enter(Phase::kIdle);
  wait_readable();
}

void HttpConnection::enter(Phase phase) {
  phase_ = phase;
  if (idle_) {
    server_.idle_list().erase(*idle_);
    idle_.reset();
  }
  switch (phase) {
    case Phase::kIdle:
      idle_ = server_.idle_list().insert(server_.idle_list().end(), this);
      return arm(server_.limits.idle_timeout);
    case Phase::kHeader: return arm(server_.limits.header_timeout);
    case Phase::kBody: return arm(server_.limits.body_timeout);
    case Phase::kAnswer: deadline_.cancel(); return;
    case Phase::kLinger: return arm(kLingerTimeout);
  }
}

void HttpConnection::arm(Duration timeout) {
  deadline_.expires_after(timeout);
  deadline_.async_wait([self = shared_from_this()](error_code cancelled) {
    // A timer set again while this call was already queued is not over.
    if (!cancelled && self->deadline_.expiry() <= std::chrono::steady_clock::now()) self->timed_out();
  });
}

void HttpConnection::timed_out() {
  if (phase_ == Phase::kHeader || phase_ == Phase::kBody) {
    refuse(408, "the request did not arrive in time");
  } else {
    close();
  }
}

void HttpConnection::close() {
  const auto self = shared_from_this();
  if (!socket_.is_open()) return;
  error_code ignored;
  socket_.close(ignored);
  deadline_.cancel();
  if (idle_) server_.idle_list().erase(*idle_);
  idle_.reset();
  release_body_bytes();
  if (const auto exchange = std::move(exchange_)) exchange->release(true);
  server_.closed(self);
}

void HttpConnection::release_body_bytes() {
  server_.body_bytes -= body_bytes_;
  body_bytes_ = 0;
}

// A read is always waiting, during an answer too: that is how a client's leaving is noticed at once.
void HttpConnection::wait_readable() {
  if (reading_ || !socket_.is_open()) return;
  reading_ = true;
  socket_.async_wait(asio::socket_base::wait_read, [self = shared_from_this()](error_code error) {
    self->reading_ = false;
    if (error) return self->close();
    self->readable();
  });
}

void HttpConnection::readable() {
  error_code error;
  const size_t n = socket_.read_some(asio::buffer(server_.scratch), error);
  if (error == asio::error::would_block) return wait_readable();
  if (error) return close();  // the client's end of file counts as its leaving
  if (phase_ == Phase::kLinger) {
    linger_bytes_ += static_cast<int64_t>(n);
    if (linger_bytes_ > kMaxLingerBytes) return close();
    return wait_readable();
  }
  in_.append(server_.scratch.data(), n);
  parse();
  if (phase_ != Phase::kAnswer || in_.size() < kMaxPipelined) wait_readable();
}

void HttpConnection::parse() {
  while (!in_.empty() && (phase_ == Phase::kIdle || phase_ == Phase::kHeader || phase_ == Phase::kBody)) {
    if (!parser_) {
      parser_.emplace();
      parser_->eager(true);
      parser_->header_limit(static_cast<uint32_t>(server_.limits.max_header_bytes));
      parser_->body_limit(static_cast<uint64_t>(server_.limits.max_body_bytes));
      header_checked_ = false;
      enter(Phase::kHeader);
    }
    error_code error;
    const size_t used = parser_->put(asio::buffer(in_), error);
    in_.erase(0, used);
    if (error == http::error::header_limit) return refuse(431, "the request's head is too long");
    if (error == http::error::body_limit) return refuse(413, "the request's body is too long");
    if (error && error != http::error::need_more) return refuse(400, "malformed HTTP request");
    if (parser_->is_header_done() && !header_checked_ && !check_header()) return;

    const auto body_size = static_cast<int64_t>(parser_->get().body().size());
    server_.body_bytes += body_size - body_bytes_;
    body_bytes_ = body_size;
    if (server_.body_bytes > server_.limits.max_body_bytes_total) {
      return refuse(503, "too many requests are being read at once");
    }
    if (parser_->is_done()) return hand_over();
    // Chunk heads and trailers come unbounded from the parser.
    if (static_cast<int64_t>(in_.size()) > server_.limits.max_header_bytes) return refuse(431, "a line is too long");
    if (used == 0 || error == http::error::need_more) break;
  }
}

bool HttpConnection::check_header() {
  header_checked_ = true;
  const auto& head = parser_->get();
  if (head.count(http::field::content_encoding) > 0) {
    refuse(415, "a content-encoding is not supported");
    return false;
  }
  if (head.count(http::field::transfer_encoding) > 0 && lower(head[http::field::transfer_encoding]) != "chunked") {
    refuse(400, "only the transfer-encoding chunked is supported");
    return false;
  }
  if (head.count(http::field::host) > 1) {
    refuse(400, "more than one host header");
    return false;
  }
  if (!parser_->is_done()) {
    enter(Phase::kBody);
    if (lower(head[http::field::expect]) == "100-continue") {
      // 25 bytes into an empty send buffer; a client that does not get them sends its body after a second anyway.
      error_code ignored;
      socket_.write_some(asio::buffer(std::string_view("HTTP/1.1 100 Continue\r\n\r\n")), ignored);
    }
  }
  return true;
}

void HttpConnection::hand_over() {
  auto message = parser_->release();
  parser_.reset();
  release_body_bytes();
  HttpRequest request;
  request.method = message.method_string();
  request.path = message.target();
  request.path.resize(std::min(request.path.size(), request.path.find('?')));
  for (const auto& field : message) request.headers.emplace_back(lower(field.name_string()), field.value());
  request.body = std::move(message.body());
  keep_alive_ = message.keep_alive();
  head_only_ = message.method() == http::verb::head;
  chunked_ = message.version() >= 11;  // for a body without a length; HTTP/1.0 reads until the close
  ended_ = false;
  enter(Phase::kAnswer);
  exchange_ = std::make_shared<ExchangeImpl>(server_.io(), shared_from_this());
  server_.handler(std::move(request), exchange_);
}

void HttpConnection::refuse(int status, std::string_view message) {
  parser_.reset();
  release_body_bytes();
  keep_alive_ = false;
  head_only_ = false;
  enter(Phase::kAnswer);
  exchange_ = std::make_shared<ExchangeImpl>(server_.io(), shared_from_this());
  HttpResponse response{status, http_error(status, std::string(message)).body()};
  exchange_->reply(std::move(response));
}

void HttpConnection::send_head(const HttpResponse& response, std::optional<size_t> length) {
  if (server_.stopping()) keep_alive_ = false;
  if (!length && !chunked_) keep_alive_ = false;
  if (length) chunked_ = false;
  out_ += cat("HTTP/1.1 ", response.status, " ");
  out_ += http::obsolete_reason(http::int_to_status(static_cast<unsigned>(response.status)));
  out_ += cat("\r\nContent-Type: ", response.content_type, "\r\n");
  for (const auto& [name, value] : response.headers) out_ += cat(name, ": ", value, "\r\n");
  if (length) out_ += cat("Content-Length: ", *length, "\r\n");
  if (chunked_) out_ += "Transfer-Encoding: chunked\r\n";
  out_ += keep_alive_ ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n";
}

void HttpConnection::flush() {
  if (write_outstanding_ || !socket_.is_open()) return;
  if (out_.empty()) {
    if (ended_) answered();
    return;
  }
  writing_.clear();
  writing_.swap(out_);
  write_outstanding_ = true;
  arm(server_.limits.write_timeout);
  asio::async_write(socket_, asio::buffer(writing_), [self = shared_from_this()](error_code error, size_t) {
    self->write_outstanding_ = false;
    if (error) return self->close();
    self->written();
  });
}

void HttpConnection::written() {
  if (!socket_.is_open()) return;
  deadline_.cancel();
  if (!out_.empty() || ended_) return flush();
  if (const auto exchange = exchange_) exchange->advance();
}

void HttpConnection::answered() {
  if (const auto exchange = std::move(exchange_)) exchange->release(false);
  if (keep_alive_ && !server_.stopping()) {
    enter(Phase::kIdle);
    parse();  // what was pipelined
    return wait_readable();
  }
  error_code ignored;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  enter(Phase::kLinger);
  in_.clear();
  wait_readable();
}

}  // namespace hearth
