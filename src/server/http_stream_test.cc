// Random streams of good, bad, cut and pipelined requests on the server's connections: each request is answered or its
// connection closed in time, and no descriptor stays. HEARTH_STREAMS sets how many (300), HEARTH_SEED the first seed.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <thread>

#include "base/bounded_queue.h"
#include "server/http_server.h"
#include "server/tls_client.h"
#include "weights/test_files.h"

namespace hearth {
namespace {

using std::chrono::milliseconds;

constexpr int64_t kClients = 150;  // at once
constexpr auto kPatience = std::chrono::seconds(30);

int64_t setting(const char* name, int64_t otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::strtoll(value, nullptr, 10);
}

int64_t num_descriptors() {
  const std::filesystem::directory_iterator open("/proc/self/fd");
  return std::distance(begin(open), end(open));
}

// Sends its pieces one after the other; or never says anything.
class Pieces final : public AnswerDriver {
 public:
  explicit Pieces(int64_t pieces, size_t bytes) : pieces_(pieces), piece_(bytes, 'p') {}
  bool advance(Exchange& exchange) override {
    if (pieces_ < 0) return false;
    if (!begun_) exchange.begin({200, {}, "text/event-stream"});
    begun_ = true;
    exchange.write(piece_, pieces_-- == 0);
    return pieces_ >= 0;
  }
  void gone() override {}

 private:
  int64_t pieces_;
  const std::string piece_;
  bool begun_ = false;
};

// What is sent, and the statuses that must come back, in order.
struct Stream {
  std::string bytes;
  std::vector<int> statuses;  // negative: to HEAD, so that no body follows
  bool ends_it = false;       // the last status closes the connection
};

class StreamMaker {
 public:
  explicit StreamMaker(uint64_t seed) : random_(seed) {}
  int64_t up_to(int64_t most) { return std::uniform_int_distribution<int64_t>(0, most)(random_); }
  bool one_in(int64_t n) { return up_to(n - 1) == 0; }

  Stream make() {
    Stream out;
    for (int64_t i = up_to(8); i > 0 && !out.ends_it; --i) add_good(out);
    if (!out.ends_it && one_in(4)) {
      add_cut(out);
      return out;
    }
    if (!out.ends_it && one_in(3)) add_bad(out);
    if (out.ends_it && one_in(3)) out.bytes.append(static_cast<size_t>(up_to(200'000)), 'z');  // behind the end
    return out;
  }

 private:
  std::string good() {
    static constexpr const char* kPaths[] = {"/now", "/later", "/pieces", "/big", "/now?a=b"};
    const std::string path = kPaths[up_to(4)];
    const std::string body(static_cast<size_t>(one_in(20) ? up_to(100'000) : up_to(100)), 'b');
    switch (up_to(3)) {
      case 0: return cat("GET ", path, " HTTP/1.1\r\nHost: h\r\n\r\n");
      case 1: return cat("POST ", path, " HTTP/1.1\r\nHost: h\r\nContent-Length: ", body.size(), "\r\n\r\n", body);
      case 2: return cat("HEAD ", path, " HTTP/1.1\r\nHost: h\r\n\r\n");
      default: {
        std::string out = cat("POST ", path, " HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
        for (int64_t i = up_to(3); i > 0; --i) out += "3;x=y\r\nabc\r\n";
        return out + "0\r\n\r\n";
      }
    }
  }
  void add_good(Stream& out) {
    std::string request = good();
    out.statuses.push_back(request.starts_with("HEAD") ? -200 : 200);
    if (one_in(12)) {
      request.insert(request.find("Host: h"), "Connection: close\r\n");
      out.ends_it = true;
    } else if (one_in(12)) {
      request = "GET /never HTTP/1.1\r\nHost: h\r\n\r\n";
      out.statuses.back() = 503;
      out.ends_it = true;
    }
    out.bytes += request;
  }
  void add_bad(Stream& out) {
    const std::string post = "POST / HTTP/1.1\r\nHost: h\r\n";
    const std::pair<std::string, int> kBad[] = {
        {"BAD\r\n\r\n", 400},
        {"GET / HTTP/3.7\r\n\r\n", 400},
        {post + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nhi", 400},
        {post + "Content-Length: -1\r\n\r\n", 400},
        {post + "Transfer-Encoding: chunked\r\n\r\n-1\r\nabc\r\n", 400},
        {post + "Transfer-Encoding: gzip\r\n\r\n", 400},
        {post + "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nhi", 415},
        {post + "Content-Length: 200001\r\n\r\n" + std::string(1000, 'b'), 413},
        {post + "x: " + std::string(9000, 'a') + "\r\n\r\n", 431},
        {"GET /" + std::string(9000, 'a'), 431},
    };
    const auto& [bytes, status] = kBad[up_to(std::ssize(kBad) - 1)];
    out.bytes += bytes;
    out.statuses.push_back(status);
    out.ends_it = true;
  }
  // A request's beginning: a 408 when nothing follows, a 400 when the input ends.
  void add_cut(Stream& out) {
    const std::string whole = good();
    out.bytes += whole.substr(0, static_cast<size_t>(1 + up_to(std::ssize(whole) - 2)));
    out.statuses.push_back(408);
    out.ends_it = true;
  }

  std::mt19937_64 random_;
};

// What is wrong with what came back; empty: nothing.
std::string check_answers(std::string_view got, const Stream& stream, bool ended) {
  for (size_t i = 0; i < stream.statuses.size(); ++i) {
    const bool head_only = stream.statuses[i] < 0;
    int wanted = std::abs(stream.statuses[i]);
    if (got.substr(0, 9) != "HTTP/1.1 ") return cat("answer ", i, " of ", stream.statuses.size(), " is missing");
    const int status = std::atoi(std::string(got.substr(9, 3)).c_str());
    if (wanted == 408 && ended && status == 400) wanted = 400;
    if (status != wanted) return cat("answer ", i, " is ", status, " and not ", wanted);
    const size_t head_end = got.find("\r\n\r\n");
    if (head_end == got.npos) return "a head without an end";
    const std::string_view head = got.substr(0, head_end);
    got.remove_prefix(head_end + 4);
    if (head_only) continue;
    if (const size_t at = head.find("Content-Length: "); at != head.npos) {
      const auto length = static_cast<size_t>(std::atoll(std::string(head.substr(at + 16, 20)).c_str()));
      if (got.size() < length) return "a body without its end";
      got.remove_prefix(length);
    } else {
      const size_t end = got.find("0\r\n\r\n");
      if (end == got.npos) return "chunks without an end";
      got.remove_prefix(end + 5);
    }
  }
  return got.empty() ? "" : "bytes behind the last answer";
}

class HttpStreams : public testing::Test {
 protected:
  void start(std::shared_ptr<const TlsContext> tls = nullptr) {
    HttpLimits limits;
    limits.max_header_bytes = 8000;
    limits.max_body_bytes = 200'000;
    // Long enough for a machine that does much else.
    limits.idle_timeout = limits.header_timeout = limits.body_timeout = milliseconds(1500);
    limits.write_timeout = milliseconds(10'000);
    limits.answer_timeout = milliseconds(3000);
    server_.emplace(limits, [this](HttpRequest&& request, std::shared_ptr<Exchange> exchange) {
      if (request.path == "/never") return exchange->drive(std::make_shared<Pieces>(-1, 0));
      if (request.path == "/pieces") return exchange->drive(std::make_shared<Pieces>(5, 100));
      if (request.path == "/big") return exchange->reply({200, std::string(300'000, 'b'), "text/plain", {}});
      if (request.path == "/now") return exchange->reply({200, "now", "text/plain", {}});
      later_.try_push([exchange] { exchange->reply({200, "later", "text/plain", {}}); });
    });
    server_->use_tls(std::move(tls));
    ASSERT_TRUE(server_->listen("127.0.0.1", 0).ok());
    io_ = std::thread([this] { server_->run(); });
    worker_ = std::thread([this] {
      while (auto call = later_.pop()) {
        std::this_thread::sleep_for(std::chrono::microseconds(200));
        (*call)();
      }
    });
  }
  void TearDown() override {
    later_.close();
    worker_.join();
    server_->stop(milliseconds(10));
    io_.join();
  }

  // Empty: as it should be.
  template <typename Client>
  std::string play(uint64_t seed) {
    StreamMaker maker(seed);
    const Stream stream = maker.make();
    Client client(server_->port());
    const bool in_one = maker.one_in(2), ends = maker.one_in(3), leaves = maker.one_in(4);
    for (std::string_view rest = stream.bytes; !rest.empty();) {
      const size_t n = in_one ? rest.size() : 1 + static_cast<size_t>(maker.up_to(maker.one_in(2) ? 40 : 100'000));
      client.send(rest.substr(0, n));
      rest.remove_prefix(std::min(n, rest.size()));
      if (maker.one_in(10)) std::this_thread::sleep_for(milliseconds(maker.up_to(3)));
      if (leaves && maker.one_in(20)) return {};
    }
    if (ends) client.end_input();
    if (leaves) {
      if (maker.one_in(2)) client.reset();
      return {};
    }
    const auto got = client.read_to_end(kPatience);
    return got ? check_answers(*got, stream, ends) : "the connection stays open";
  }

  BoundedQueue<std::function<void()>> later_{100'000};
  std::optional<HttpServer> server_;
  std::thread io_, worker_;

  template <typename Client>
  void play_all(int64_t streams) {
    const auto first = static_cast<uint64_t>(setting("HEARTH_SEED", 1));
    const int64_t before = num_descriptors();
    std::atomic<int64_t> next = 0;
    std::vector<std::thread> clients;
    for (int64_t i = 0; i < kClients; ++i) {
      clients.emplace_back([&] {
        for (int64_t at = next++; at < streams; at = next++) {
          const uint64_t seed = first + static_cast<uint64_t>(at);
          const std::string wrong = play<Client>(seed);
          EXPECT_EQ(wrong, "") << "HEARTH_STREAMS=1 HEARTH_SEED=" << seed;
        }
      });
    }
    for (std::thread& client : clients) client.join();
    for (int i = 0; i < 1000 && num_descriptors() > before; ++i) std::this_thread::sleep_for(milliseconds(10));
    EXPECT_LE(num_descriptors(), before);
  }
};

TEST_F(HttpStreams, AreAnsweredOrClosed) {
  start();
  play_all<RawClient>(setting("HEARTH_STREAMS", 300));
}

TEST_F(HttpStreams, AreAnsweredOrClosedUnderTls) {
  const test::TempFolder folder;
  const auto [certificate, key] = make_certificate();
  auto tls = TlsContext::load(folder.write("cert.pem", certificate), folder.write("key.pem", key));
  ASSERT_TRUE(tls.ok());
  start(std::move(tls).value());
  play_all<TlsClient>(setting("HEARTH_STREAMS", 300) / 2);
}

}  // namespace
}  // namespace hearth
