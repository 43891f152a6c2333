// A connection's life: a handshake where there is TLS, idle, head, body, answer, and again; or linger, so that a
// refusal is read before the close. Input never stops being read: what is not wanted is dropped, so that a client's
// leaving is always noticed.
#include "server/http_connection.h"

#include <netinet/tcp.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/dispatch.hpp>
#include <charconv>
#include <new>

#include "api/errors.h"
#include "base/log.h"
#include "server/handler_slot.h"

namespace hearth {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

constexpr size_t kMaxPipelined = 1 << 20;       // bytes kept beyond the request in work
constexpr int64_t kMaxDroppedBytes = 64 << 20;  // then the connection is cut
constexpr auto kLingerTimeout = std::chrono::seconds(2);
constexpr std::string_view kStatusBegin = "HTTP/1.1 ";  // of every answer

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

// A host that vanished without a word is noticed after two minutes, also where nothing is written to it. What the
// kernel holds unsent is bounded, so that a deadline on progress sees the client's pace and not the buffer's.
void set_options(tcp::socket& socket) {
  error_code ignored;
  socket.non_blocking(true, ignored);
  socket.set_option(tcp::no_delay(true), ignored);
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
  const auto set = [&](int name, int value) {
    setsockopt(socket.native_handle(), IPPROTO_TCP, name, &value, sizeof value);
  };
  set(TCP_KEEPIDLE, 60);
  set(TCP_KEEPINTVL, 15);
  set(TCP_KEEPCNT, 4);
  set(TCP_NOTSENT_LOWAT, 128 << 10);
}

}  // namespace

using Verdict = BodyBudget::Verdict;

// Survives its connection, so that the engine's and the workers' late calls find somebody at home.
class ExchangeImpl final : public Exchange, public std::enable_shared_from_this<ExchangeImpl> {
 public:
  ExchangeImpl(asio::io_context& io, std::shared_ptr<HttpConnection> connection)
      : io_(io), connection_(std::move(connection)) {}

  void reply(HttpResponse response) override {
    asio::dispatch(io_, [self = shared_from_this(), response = std::move(response)] {
      const auto connection = self->connection_;
      if (connection == nullptr || connection->reply_.begun) return;
      connection->guarded([&] { connection->respond(response); });
    });
  }
  void drive(std::shared_ptr<AnswerDriver> driver) override {
    asio::dispatch(io_, [self = shared_from_this(), driver = std::move(driver)] {
      if (self->connection_ == nullptr) return driver->gone();
      self->driver_ = driver;
      self->advance();
    });
  }
  // One handler is under way at a time: it does for all that woke it before it ran.
  void wake() override {
    if (!woken_.exchange(true)) asio::post(io_, Woken{shared_from_this()});
  }

  void begin(HttpResponse head) override {
    if (connection_ != nullptr) connection_->send_head(head, std::nullopt);
  }
  void write(std::string_view piece, bool last) override {
    const auto connection = connection_;
    if (connection == nullptr) return;
    std::string& out = connection->out_;
    const bool chunked = connection->reply_.chunked;
    if (!connection->reply_.head_only) {
      if (chunked && !piece.empty()) {
        char size[20];
        out.append(size, std::to_chars(size, size + sizeof size, piece.size(), 16).ptr);
        out.append("\r\n").append(piece).append("\r\n");
      } else {
        out += piece;
      }
      if (chunked && last) out += "0\r\n\r\n";
    }
    connection->reply_.complete = last;
    connection->flush();
  }

  void advance() {
    const auto driver = driver_;
    const auto connection = connection_;
    if (!driver || !connection || connection->reply_.complete) return;
    more_ = !connection->out_.empty();
    if (more_) return;
    connection->guarded([&] { more_ = driver->advance(*this); });
    if (connection->out_.empty()) written();
  }
  // All that was given to the connection is sent.
  void written() {
    if (more_) wake();
  }
  std::optional<AnswerDriver::Counts> counts() const { return driver_ ? driver_->counts() : std::nullopt; }
  // The connection lets go: because the answer is complete, or because the client left.
  void release(bool client_gone) {
    connection_.reset();
    if (const auto driver = std::move(driver_); driver && client_gone) driver->gone();
  }

 private:
  struct Woken {
    using allocator_type = SlotAllocator<std::byte>;
    std::shared_ptr<ExchangeImpl> exchange;
    allocator_type get_allocator() const { return allocator_type(exchange->slot_); }
    void operator()() const {
      exchange->woken_ = false;
      exchange->advance();
    }
  };

  asio::io_context& io_;
  std::shared_ptr<HttpConnection> connection_;
  std::shared_ptr<AnswerDriver> driver_;
  std::atomic<bool> woken_ = false;
  bool more_ = false;  // the driver has something to write after the write under way
  HandlerSlot slot_;
};

HttpConnection::HttpConnection(HttpServer::Impl& server, tcp::socket socket, std::string client, const TlsContext* tls)
    : server_(server),
      socket_(std::move(socket)),
      transport_(socket_.native_handle(), tls),
      phase_(tls != nullptr ? HttpPhase::kHandshake : HttpPhase::kIdle),
      timer_(server.io()),
      client_(std::move(client)),
      share_(server.budget.share(client_)) {}

void HttpConnection::start(HttpServer::Impl::Connections::iterator place) {
  place_ = place;
  set_options(socket_);
  guarded([&] {
    enter(phase_);
    wait_readable();
  });
}

// Every event runs in here. Where memory gives out, the request that asked for it is refused and what it held is
// free again.
template <typename F>
void HttpConnection::guarded(F&& f) {
  const auto self = shared_from_this();
  try {
    return f();
  } catch (const std::bad_alloc&) {
  }
  if (phase_ == HttpPhase::kClosed) return;
  try {
    in_ = {};
    if (phase_ == HttpPhase::kLinger || reply_.begun) return close();
    refuse(503, "the server is out of memory");
    if (phase_ != HttpPhase::kClosed) wait_readable();
  } catch (const std::bad_alloc&) {
    close();
  }
}

void HttpConnection::enter(HttpPhase phase) {
  auto& to = server_.connections(phase);
  to.splice(to.end(), server_.connections(phase_), place_);
  phase_ = phase;
  const HttpLimits& limits = server_.limits;
  Duration timeout{};
  switch (phase) {
    case HttpPhase::kIdle: timeout = limits.idle_timeout; break;
    case HttpPhase::kHandshake:
    case HttpPhase::kHead: timeout = limits.header_timeout; break;
    case HttpPhase::kBody: timeout = limits.body_timeout; break;
    case HttpPhase::kAnswer: timeout = limits.answer_timeout; break;
    case HttpPhase::kLinger: timeout = kLingerTimeout; break;
    case HttpPhase::kClosed: break;
  }
  phase_deadline_ = std::chrono::steady_clock::now() + timeout;
  arm();
}

// A timer that ends too early looks again, so deadlines move without touching it.
void HttpConnection::arm() {
  const SteadyTime next = std::min(phase_deadline_, write_deadline_);
  if (next >= timer_at_) return;
  timer_at_ = kNever;
  timer_.expires_at(next);
  timer_.async_wait([self = shared_from_this()](error_code cancelled) {
    if (!cancelled) self->guarded([&] { self->look_at_deadlines(); });
  });
  timer_at_ = next;
}

void HttpConnection::look_at_deadlines() {
  if (phase_ == HttpPhase::kClosed) return;
  timer_at_ = kNever;
  const SteadyTime now = std::chrono::steady_clock::now();
  if (now >= write_deadline_) return close();
  if (now >= phase_deadline_) return timed_out();
  arm();
}

void HttpConnection::timed_out() {
  switch (phase_) {
    case HttpPhase::kHead:
    case HttpPhase::kBody: return refuse(408, "the request did not arrive in time");
    case HttpPhase::kAnswer: return abandon();
    case HttpPhase::kHandshake:
    case HttpPhase::kIdle:
    case HttpPhase::kLinger:
    case HttpPhase::kClosed: return close();
  }
}

void HttpConnection::abandon() {
  const auto self = shared_from_this();
  switch (phase_) {
    case HttpPhase::kHead:
    case HttpPhase::kBody: break;
    case HttpPhase::kAnswer:
      if (reply_.complete) {  // it is being written, which has a deadline of its own
        phase_deadline_ = kNever;
        return arm();
      }
      if (reply_.begun) return close();
      break;
    case HttpPhase::kLinger: return;  // its client may still be reading
    case HttpPhase::kHandshake:
    case HttpPhase::kIdle:
    case HttpPhase::kClosed: return close();
  }
  refuse(503, server_.stopping() ? "the server is shutting down" : "the answer was not ready in time");
}

void HttpConnection::close() {
  const auto self = shared_from_this();
  if (phase_ == HttpPhase::kClosed) return;
  if (phase_ == HttpPhase::kAnswer) log_request(false);
  server_.connections(phase_).erase(place_);
  phase_ = HttpPhase::kClosed;
  error_code ignored;
  socket_.close(ignored);
  timer_.cancel();
  parser_.reset();
  share_.resize(0);
  if (const auto exchange = std::move(exchange_)) exchange->release(true);
  server_.closed(client_);
}

void HttpConnection::wait_readable() {
  if (wait_readable_outstanding_ || phase_ == HttpPhase::kClosed) return;
  if (input_ != Input::kEnded && transport_.holds_input()) {
    wait_readable_outstanding_ = true;
    asio::post(server_.io(), [self = shared_from_this()] {
      self->wait_readable_outstanding_ = false;
      if (self->phase_ != HttpPhase::kClosed) self->guarded([&] { self->readable(); });
    });
    return;
  }
  // Of an ended input only the connection's breaking is news: a read would end at once, again and again.
  go_on_reading_when(input_ == Input::kEnded ? asio::socket_base::wait_error : asio::socket_base::wait_read);
}

void HttpConnection::go_on_reading_when(asio::socket_base::wait_type what) {
  socket_.async_wait(what, [self = shared_from_this()](error_code error) {
    self->wait_readable_outstanding_ = false;
    if (self->phase_ == HttpPhase::kClosed) return;
    if (error || self->input_ == Input::kEnded) return self->close();
    self->guarded([&] { self->readable(); });
  });
  wait_readable_outstanding_ = true;
}

// Whether it is done.
bool HttpConnection::shake_hands() {
  const Transport::Outcome outcome = transport_.handshake();
  switch (outcome) {
    case Transport::Outcome::kDone: enter(HttpPhase::kIdle); return true;
    case Transport::Outcome::kWaitReadable: wait_readable(); break;
    case Transport::Outcome::kWaitWritable: go_on_reading_when(asio::socket_base::wait_write); break;
    case Transport::Outcome::kPlainHttp:
      transport_.drop_tls();
      refuse(400, "this port speaks HTTPS, and the request came without TLS");
      if (phase_ != HttpPhase::kClosed) wait_readable();
      break;
    case Transport::Outcome::kEnd:
    case Transport::Outcome::kBroken: close(); break;
  }
  return false;
}

void HttpConnection::readable() {
  if (phase_ == HttpPhase::kHandshake && !shake_hands()) return;
  const auto [outcome, n] = transport_.read(server_.scratch.data(), server_.scratch.size());
  if (outcome == Transport::Outcome::kWaitReadable) return wait_readable();
  if (outcome == Transport::Outcome::kWaitWritable) return go_on_reading_when(asio::socket_base::wait_write);
  if (outcome == Transport::Outcome::kEnd) return input_ended();
  if (outcome != Transport::Outcome::kDone) return close();
  if (input_ == Input::kKept && phase_ == HttpPhase::kAnswer) {
    const size_t pipelined = in_.size() + n;
    if (pipelined > kMaxPipelined || share_.resize(std::ssize(in_) + n) != Verdict::kFits) drop_input();
  }
  if (input_ == Input::kDropped) {
    dropped_bytes_ += static_cast<int64_t>(n);
    if (dropped_bytes_ > kMaxDroppedBytes) return close();
    // Who reads only after all is sent is given the time for it.
    if (phase_ == HttpPhase::kLinger && dropped_bytes_ - dropped_at_deadline_ >= server_.limits.progress_bytes) {
      dropped_at_deadline_ = dropped_bytes_;
      phase_deadline_ = std::chrono::steady_clock::now() + kLingerTimeout;
    }
    return wait_readable();
  }
  in_.append(server_.scratch.data(), n);
  parse();
  wait_readable();
}

// The end of a client's input says that it sends no more. Whether it still reads only a write can tell: one who left
// answers it with a reset. So the answer's first bytes, which are the same for every answer, are sent at once.
void HttpConnection::input_ended() {
  const auto self = shared_from_this();
  input_ = Input::kEnded;
  switch (phase_) {
    case HttpPhase::kHead:
    case HttpPhase::kBody: refuse(400, "the request ends early"); break;
    case HttpPhase::kAnswer:
      if (reply_.begun || reply_.status_begun || !out_.empty()) break;
      out_ = kStatusBegin;
      reply_.status_begun = true;
      flush();
      break;
    case HttpPhase::kIdle:
      if (in_.empty()) return close();
      break;  // what was pipelined is about to be parsed
    case HttpPhase::kHandshake:
    case HttpPhase::kLinger:
    case HttpPhase::kClosed: return close();
  }
  wait_readable();
}

void HttpConnection::drop_input() {
  in_ = {};
  share_.resize(0);
  reply_.keep_alive = false;
  if (input_ == Input::kKept) input_ = Input::kDropped;
}

// Needs more than has come so far.
void HttpConnection::starve() {
  if (input_ == Input::kEnded) input_ended();
}

void HttpConnection::parse() {
  while (phase_ == HttpPhase::kIdle || phase_ == HttpPhase::kHead || phase_ == HttpPhase::kBody) {
    if (phase_ == HttpPhase::kIdle) in_.erase(0, std::min(in_.size(), in_.find_first_not_of("\r\n")));
    if (in_.empty()) return starve();
    if (!parser_) {
      parser_.emplace();
      parser_->eager(true);
      parser_->header_limit(static_cast<uint32_t>(server_.limits.max_header_bytes));
      parser_->body_limit(static_cast<uint64_t>(server_.limits.max_body_bytes));
      header_checked_ = false;
      reply_ = {};
      enter(HttpPhase::kHead);
    }
    error_code error;
    const size_t used = parser_->put(asio::buffer(in_), error);
    in_.erase(0, used);
    if (error == http::error::header_limit) return refuse(431, "the request's head is too long");
    if (error == http::error::body_limit) return refuse(413, "the request's body is too long");
    if (error && error != http::error::need_more) return refuse(400, "malformed HTTP request");
    if (parser_->is_header_done() && !header_checked_ && !check_header()) return;
    if (!admit(share_.resize(std::ssize(in_) + static_cast<int64_t>(parser_->get().body().capacity())))) return;
    if (parser_->is_done()) return hand_over();
    const size_t body_bytes = parser_->get().body().size();
    if (static_cast<int64_t>(body_bytes - body_bytes_at_deadline_) >= server_.limits.progress_bytes) {
      body_bytes_at_deadline_ = body_bytes;
      phase_deadline_ = std::chrono::steady_clock::now() + server_.limits.body_timeout;
    }
    // Chunk heads and trailers come unbounded from the parser.
    if (static_cast<int64_t>(in_.size()) > server_.limits.max_header_bytes) return refuse(431, "a line is too long");
    if (used == 0 || error == http::error::need_more) return starve();
  }
}

bool HttpConnection::admit(BodyBudget::Verdict verdict) {
  if (verdict == Verdict::kServerFull) refuse(503, "the server holds as many bytes of requests as it may");
  if (verdict == Verdict::kClientFull)
    refuse(429, "the server holds as many bytes of this client's requests as it may");
  return verdict == Verdict::kFits;
}

bool HttpConnection::check_header() {
  header_checked_ = true;
  const auto& head = parser_->get();
  request_ = {};
  request_.method = head.method_string();
  request_.path = head.target();
  request_.path.resize(std::min(request_.path.size(), request_.path.find('?')));
  for (const auto& field : head) request_.headers.emplace_back(lower(field.name_string()), field.value());
  reply_.keep_alive = head.keep_alive();
  reply_.head_only = head.method() == http::verb::head;
  reply_.chunked = head.version() >= 11;  // for a body without a length; HTTP/1.0 reads until the close
  reply_.since = std::chrono::steady_clock::now();

  const auto refused = [&](int status, std::string_view message) {
    refuse(status, message);
    return false;
  };
  const auto hosts = head.count(http::field::host);
  if (hosts > 1) return refused(400, "more than one host header");
  if (hosts == 0 && head.version() >= 11) return refused(400, "a request of HTTP/1.1 needs a host header");
  if (head.count(http::field::content_encoding) > 0) return refused(415, "a content-encoding is not supported");
  if (head.count(http::field::transfer_encoding) > 0 && lower(head[http::field::transfer_encoding]) != "chunked") {
    return refused(400, "only the transfer-encoding chunked is supported");
  }
  const auto refusal = server_.gate ? server_.gate(request_) : std::nullopt;
  reply_.label = std::move(request_.label);
  if (refusal && !parser_->is_done()) {
    refuse(*refusal);
    return false;
  }
  if (refusal) {
    parser_.reset();
    enter(HttpPhase::kAnswer);
    respond(*refusal);
    return false;
  }
  if (const std::string& client = reply_.label.client; !client.empty()) {
    const int64_t held = std::ssize(in_) + static_cast<int64_t>(head.body().capacity());
    share_ = server_.budget.share(client);
    if (!admit(share_.resize(held))) return false;
  }
  if (!parser_->is_done()) {
    // A body without room need not be sent.
    if (const auto length = parser_->content_length()) {
      if (!admit(share_.check(std::ssize(in_) + static_cast<int64_t>(*length)))) return false;
    }
    body_bytes_at_deadline_ = 0;
    enter(HttpPhase::kBody);
    if (lower(head[http::field::expect]) == "100-continue") {
      out_ += "HTTP/1.1 100 Continue\r\n\r\n";
      flush();
    }
  }
  return phase_ != HttpPhase::kClosed;
}

void HttpConnection::hand_over() {
  request_.body = std::move(parser_->get().body());
  parser_.reset();
  request_.share = std::exchange(share_, server_.budget.share(client_));
  request_.share.resize(static_cast<int64_t>(request_.body.capacity()));
  if (share_.resize(std::ssize(in_)) != Verdict::kFits) drop_input();
  enter(HttpPhase::kAnswer);
  exchange_ = std::make_shared<ExchangeImpl>(server_.io(), shared_from_this());
  server_.handler(std::move(request_), exchange_);
}

void HttpConnection::refuse(int status, std::string_view message) {
  HttpResponse response{status, http_error(status, std::string(message)).body()};
  if (status == 429 || status == 503) response.headers.emplace_back("Retry-After", "1");
  refuse(response);
}

// And the connection ends.
void HttpConnection::refuse(const HttpResponse& response) {
  parser_.reset();
  if (const auto exchange = std::move(exchange_)) exchange->release(true);
  drop_input();
  enter(HttpPhase::kAnswer);
  respond(response);
}

void HttpConnection::respond(const HttpResponse& response) {
  out_.reserve(out_.size() + response.body.size() + 1024);  // where this fails, no answer has begun
  send_head(response, response.body.size());
  if (!reply_.head_only) out_ += response.body;
  reply_.complete = true;
  flush();
}

void HttpConnection::send_head(const HttpResponse& response, std::optional<size_t> length) {
  if (server_.stopping() || (input_ == Input::kEnded && in_.empty())) reply_.keep_alive = false;
  if (!length && !reply_.chunked) reply_.keep_alive = false;
  if (length) reply_.chunked = false;
  if (!reply_.status_begun) out_ += kStatusBegin;
  reply_.status_begun = reply_.begun = true;
  reply_.status = response.status;
  reply_.first_byte = std::chrono::steady_clock::now();
  out_ += cat(response.status, " ");
  out_ += http::obsolete_reason(http::int_to_status(static_cast<unsigned>(response.status)));
  out_ += cat("\r\nContent-Type: ", response.content_type, "\r\n");
  const auto add = [&](const HttpHeaders& headers) {
    for (const auto& [name, value] : headers) out_ += cat(name, ": ", value, "\r\n");
  };
  add(reply_.label.reply_headers);
  add(response.headers);
  if (length) out_ += cat("Content-Length: ", *length, "\r\n");
  if (reply_.chunked) out_ += "Transfer-Encoding: chunked\r\n";
  out_ += reply_.keep_alive ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n";
}

void HttpConnection::wait_writable() {
  if (wait_writable_outstanding_) return;
  if (write_deadline_ == kNever) {
    written_at_deadline_ = 0;
    write_deadline_ = std::chrono::steady_clock::now() + server_.limits.write_timeout;
    arm();
  }
  socket_.async_wait(asio::socket_base::wait_write, [self = shared_from_this()](error_code error) {
    self->wait_writable_outstanding_ = false;
    if (self->phase_ == HttpPhase::kClosed) return;
    if (error) return self->close();
    self->guarded([&] { self->flush(); });
  });
  wait_writable_outstanding_ = true;
}

void HttpConnection::flush() {
  const auto self = shared_from_this();
  while (written_ < out_.size()) {
    if (phase_ == HttpPhase::kClosed || wait_writable_outstanding_) return;
    const auto [outcome, n] = transport_.write(out_.data() + written_, out_.size() - written_);
    if (outcome == Transport::Outcome::kWaitWritable) return wait_writable();
    if (outcome != Transport::Outcome::kDone) return close();
    written_ += n;
    written_at_deadline_ += static_cast<int64_t>(n);
    const SteadyTime now = std::chrono::steady_clock::now();
    if (phase_ == HttpPhase::kAnswer) phase_deadline_ = now + server_.limits.answer_timeout;
    if (write_deadline_ != kNever && written_at_deadline_ >= server_.limits.progress_bytes) {
      written_at_deadline_ = 0;
      write_deadline_ = now + server_.limits.write_timeout;
    }
  }
  out_.clear();
  written_ = 0;
  write_deadline_ = kNever;
  if (reply_.complete) return answered();
  if (exchange_) exchange_->written();
}

// One line a request, with nothing of the client's in it but a harmless id.
void HttpConnection::log_request(bool completed) try {
  const HttpLabel& label = reply_.label;
  const LogLevel level = label.is_probe ? LogLevel::kDebug : LogLevel::kInfo;
  if (!log_enabled(level)) return;
  const std::string_view id = label.id, route = label.route;
  std::string line = cat(id.empty() ? "-" : id, " ", route.empty() ? "-" : route, " ");
  line += reply_.begun ? cat(reply_.status) : std::string("-");
  std::vector<LogField> fields;
  if (!id.empty()) fields.push_back({"request_id", id});
  if (!route.empty()) fields.push_back({"route", route});
  if (reply_.begun) fields.push_back({"status", int64_t{reply_.status}});
  const auto add = [&](std::string_view name, std::string_view before, int64_t value, std::string_view after) {
    line += cat(before, value, after);
    fields.push_back({name, value});
  };
  if (reply_.since != SteadyTime{}) {
    const auto ms = [this](SteadyTime time) {
      return std::chrono::duration_cast<std::chrono::milliseconds>(time - reply_.since).count();
    };
    if (reply_.begun) add("first_byte_ms", ", first byte ", ms(reply_.first_byte), " ms");
    add("total_ms", ", total ", ms(std::chrono::steady_clock::now()), " ms");
  }
  if (const auto counts = exchange_ ? exchange_->counts() : std::nullopt) {
    add("prompt_tokens", ", ", counts->prompt_tokens, " prompt and ");
    add("completion_tokens", "", counts->completion_tokens, " completion tokens");
  }
  if (!completed) line += ", not completed";
  fields.push_back({"completed", completed});
  log_fields(level, line, "request", fields);
} catch (const std::bad_alloc&) {  // also called where memory has given out
}

void HttpConnection::answered() {
  log_request(true);
  if (const auto exchange = std::move(exchange_)) exchange->release(false);
  out_ = {};
  reply_.complete = false;
  if (reply_.keep_alive && !server_.stopping()) {
    enter(HttpPhase::kIdle);
    // What was pipelined has its turn after the other connections.
    if (in_.empty() && input_ != Input::kEnded) return;
    asio::post(server_.io(), [self = shared_from_this()] { self->guarded([&] { self->parse(); }); });
    return;
  }
  if (input_ == Input::kEnded) return close();
  drop_input();
  transport_.end_output();
  enter(HttpPhase::kLinger);
}

}  // namespace hearth
