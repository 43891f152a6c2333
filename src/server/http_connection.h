// HttpConnection: one client's socket, its requests one after the other. All of it runs on the I/O thread.
#pragma once

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/http/parser.hpp>
#include <list>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "server/http_server.h"
#include "server/tls.h"

namespace hearth {

class HttpConnection;

// A request's body, which takes memory as it comes and not as its head announces it.
struct GrowingBody {
  using value_type = std::string;
  class reader {
   public:
    template <bool kIsRequest, typename Fields>
    reader(boost::beast::http::header<kIsRequest, Fields>&, std::string& body) : body_(body) {}
    void init(const boost::optional<uint64_t>& length, boost::system::error_code& error) {
      if (length) length_ = *length;
      error = {};
    }
    template <typename Buffers>
    size_t put(const Buffers& buffers, boost::system::error_code& error) {
      error = {};
      const size_t size = body_.size(), more = boost::asio::buffer_size(buffers);
      if (size + more > body_.capacity()) {
        // Twice as much, but not beyond the end that is known: a string's own growth would not stop there.
        std::string grown;
        grown.reserve(std::max(size + more, std::min<size_t>(2 * size, length_)));
        grown += body_;
        body_ = std::move(grown);
      }
      body_.resize(size + more);
      return boost::asio::buffer_copy(boost::asio::buffer(body_.data() + size, more), buffers);
    }
    void finish(boost::system::error_code& error) { error = {}; }

   private:
    std::string& body_;
    uint64_t length_ = UINT64_MAX;
  };
};

// Where a connection is in its life. Every phase has a deadline.
enum class HttpPhase {
  kHandshake,  // of TLS
  kIdle,       // between requests, not a byte of the next one
  kHead,       // a head is on its way
  kBody,       // a body is on its way
  kAnswer,     // one request in work: its answer is being made or written
  kLinger,     // all is said; what the client still sends is dropped, so that it can read the answer before the close
  kClosed,
};

class HttpServer::Impl {
 public:
  Impl(const HttpLimits& limits_in, Handler handler_in, Gate gate_in)
      : limits(limits_in),
        handler(std::move(handler_in)),
        gate(std::move(gate_in)),
        budget(limits.max_total_bytes, limits.max_client_bytes) {}
  ~Impl();
  Status listen(const std::string& host, int port);
  int port() const { return acceptor_.local_endpoint().port(); }
  void run();
  void stop(Duration grace);
  void use_tls(std::shared_ptr<const TlsContext> tls);

  // For the connections.
  using Connections = std::list<std::shared_ptr<HttpConnection>>;
  const HttpLimits limits;
  const Handler handler;
  const Gate gate;
  BodyBudget budget;
  std::array<char, 64 << 10> scratch;  // what a read fills before it is parsed: idle sockets hold no buffer
  // Of a phase, in the order in which they entered it.
  Connections& connections(HttpPhase phase) { return connections_[static_cast<size_t>(phase)]; }
  boost::asio::io_context& io() { return io_; }
  bool stopping() const { return stopping_; }
  void closed(const std::string& client);

 private:
  void accept();
  void take(boost::asio::ip::tcp::socket socket);
  bool give_way(const std::string* client);
  int64_t num_connections() const;
  template <typename F>
  void for_each_connection(F&& f);

  boost::asio::io_context io_{1};
  boost::asio::ip::tcp::acceptor acceptor_{io_};
  boost::asio::steady_timer retry_accept_{io_}, grace_{io_};
  std::array<Connections, static_cast<size_t>(HttpPhase::kClosed)> connections_;
  std::unordered_map<std::string, int64_t> num_of_client_;
  bool accepting_ = false, stopping_ = false;

  std::mutex tls_mutex_;
  std::shared_ptr<const TlsContext> tls_;  // of newcomers
};

class HttpConnection : public std::enable_shared_from_this<HttpConnection> {
 public:
  // `client` is what tells clients apart. Null `tls`: plain HTTP.
  HttpConnection(HttpServer::Impl& server, boost::asio::ip::tcp::socket socket, std::string client,
                 const TlsContext* tls);
  const std::string& client() const { return client_; }
  // In the server's list of the first phase.
  HttpPhase phase() const { return phase_; }
  void start(HttpServer::Impl::Connections::iterator place);
  void close();
  // An answer that has not begun becomes a 503; one that has is cut off.
  void abandon();

 private:
  friend class ExchangeImpl;
  using Parser = boost::beast::http::request_parser<struct GrowingBody>;
  using SteadyTime = std::chrono::steady_clock::time_point;
  static constexpr SteadyTime kNever = SteadyTime::max();

  // What becomes of bytes that the client sends.
  enum class Input {
    kKept,     // parsed, now or after the answer in work
    kDropped,  // the connection ends after the answer in work
    kEnded,    // there are no more: the client closed its side, and may still read
  };
  // The answer to the request in work. Each request starts with a new one, so that nothing of the last one's is left.
  struct Reply {
    bool keep_alive = false, head_only = false, chunked = false;
    bool status_begun = false;  // kStatusBegin is written
    bool begun = false;         // its head is written
    bool complete = false;      // so is its last byte
    int status = 0;
    HttpLabel label;
    SteadyTime since{}, first_byte{};  // the head was read; the answer began
  };

  template <typename F>
  void guarded(F&& f);
  void enter(HttpPhase phase);
  void arm();
  void look_at_deadlines();
  void timed_out();

  void wait_readable();
  void go_on_reading_when(boost::asio::socket_base::wait_type what);
  void readable();
  bool shake_hands();
  void input_ended();
  void drop_input();
  void starve();
  void parse();
  // False: refused.
  bool admit(BodyBudget::Verdict verdict);
  bool check_header();
  void hand_over();

  void refuse(int status, std::string_view message);
  void refuse(const HttpResponse& response);
  void respond(const HttpResponse& response);
  void send_head(const HttpResponse& response, std::optional<size_t> length);
  void wait_writable();
  void flush();
  void answered();
  void log_request(bool completed);
  HttpServer::Impl& server_;
  boost::asio::ip::tcp::socket socket_;
  Transport transport_;  // through the socket
  HttpPhase phase_ = HttpPhase::kIdle;
  HttpServer::Impl::Connections::iterator place_;  // in the server's list of the phase

  boost::asio::steady_timer timer_;
  SteadyTime phase_deadline_ = kNever, write_deadline_ = kNever, timer_at_ = kNever;

  const std::string client_;
  BodyBudget::Share share_;  // of in_ and of the body that is being read
  Input input_ = Input::kKept;
  std::string in_;  // read, not parsed: a part of a head, or requests that came before the answer to the last one
  int64_t dropped_bytes_ = 0, dropped_at_deadline_ = 0;
  std::optional<Parser> parser_;
  HttpRequest request_;  // its head, once that is read
  bool header_checked_ = false;
  size_t body_bytes_at_deadline_ = 0;

  std::shared_ptr<class ExchangeImpl> exchange_;
  Reply reply_;
  std::string out_;
  size_t written_ = 0;               // of out_
  int64_t written_at_deadline_ = 0;  // since the deadline was last moved
  bool wait_readable_outstanding_ = false, wait_writable_outstanding_ = false;
};

}  // namespace hearth
