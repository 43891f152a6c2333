// The HTTP layer by raw sockets: what it refuses, what it bounds, and that it notices a client's leaving.
#include "server/http_server.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <thread>

#include "server/raw_client.h"

namespace hearth {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Sends so many pieces and ends, or with none just waits.
class TickingDriver final : public AnswerDriver {
 public:
  explicit TickingDriver(int64_t pieces, size_t piece_bytes = 2) : pieces_(pieces), piece_(piece_bytes, 'x') {}
  bool advance(Exchange& exchange) override {
    asked = true;
    if (pieces_ == 0) return false;
    if (sent == 0) exchange.begin({200, {}, "text/event-stream"});
    const bool last = sent == pieces_;
    if (!last) ++sent;
    exchange.write(last ? std::string_view() : piece_, last);
    return !last;
  }
  void gone() override { left = true; }
  std::atomic<int64_t> sent = 0;
  std::atomic<bool> asked = false, left = false;

 private:
  const int64_t pieces_;
  const std::string piece_;
};

class HttpServerTest : public testing::Test {
 protected:
  void start(HttpLimits limits = {}, HttpServer::Gate gate = {}) {
    const auto handler = [this](HttpRequest&& request, std::shared_ptr<Exchange> exchange) {
      if (request.path == "/three") return exchange->drive(std::make_shared<TickingDriver>(3));
      if (request.path == "/stream") return exchange->drive(driver_);
      if (request.path == "/big") return exchange->reply({200, std::string(8 << 20, 'b'), "text/plain", {}});
      exchange->reply({200, cat(request.method, " ", request.path, " ", request.body), "text/plain", {}});
    };
    server_.emplace(limits, handler, std::move(gate));
    ASSERT_TRUE(server_->listen("127.0.0.1", 0).ok());
    thread_ = std::thread([this] { server_->run(); });
  }
  void TearDown() override {
    if (!server_) return;
    server_->stop(milliseconds(10));
    thread_.join();
    server_.reset();
  }
  RawClient connect() { return RawClient(server_->port()); }
  std::string ask(std::string_view bytes) {
    RawClient client = connect();
    client.send(bytes);
    return client.read_all();
  }

  std::optional<HttpServer> server_;
  std::thread thread_;
  std::shared_ptr<TickingDriver> driver_;  // what /stream answers with
};

bool wait_for(const std::function<bool()>& condition) {
  for (int i = 0; i < 1000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(milliseconds(10));
  }
  return false;
}

TEST_F(HttpServerTest, AnswersAndKeepsAlive) {
  start();
  RawClient client = connect();
  for (int i = 0; i < 3; ++i) {
    client.send("POST /a?x=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi");
    EXPECT_TRUE(client.read_until("POST /a hi").starts_with("HTTP/1.1 200 OK\r\n"));
  }
}

TEST_F(HttpServerTest, PipelinedRequestsAreAnsweredInOrder) {
  start();
  const std::string got =
      ask("GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\nGET /3 HTTP/1.1\r\nHost: h\r\n"
          "Connection: close\r\n\r\n");
  EXPECT_LT(got.find("GET /1"), got.find("GET /2"));
  EXPECT_LT(got.find("GET /2"), got.find("GET /3"));
  EXPECT_NE(got.find("GET /3"), got.npos);
}

TEST_F(HttpServerTest, ChunkedBodyAndByteByByte) {
  start();
  const std::string request =
      "POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: "
      "close\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
  EXPECT_NE(ask(request).find("POST /c abcde"), std::string::npos);
  RawClient client = connect();
  for (const char c : request) client.send(std::string_view(&c, 1));
  EXPECT_NE(client.read_all().find("POST /c abcde"), std::string::npos);
}

TEST_F(HttpServerTest, HeadHasNoBody) {
  start();
  const std::string got = ask("HEAD /h HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  EXPECT_NE(got.find("Content-Length: 8"), got.npos);
  EXPECT_TRUE(got.ends_with("\r\n\r\n"));
}

TEST_F(HttpServerTest, StreamsInChunksAndPlainToHttp10) {
  start();
  EXPECT_TRUE(ask("GET /three HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
                  .ends_with("\r\n\r\n2\r\nxx\r\n2\r\nxx\r\n2\r\nxx\r\n0\r\n\r\n"));
  EXPECT_TRUE(ask("GET /three HTTP/1.0\r\n\r\n").ends_with("Connection: close\r\n\r\nxxxxxx"));
}

struct Refusal {
  const char* name;
  std::string request;
  std::string status;
};

TEST_F(HttpServerTest, RefusesAndCloses) {
  HttpLimits limits;
  limits.max_body_bytes = 1000;
  limits.max_header_bytes = 2000;
  start(limits);
  const std::string post = "POST / HTTP/1.1\r\nHost: h\r\n";
  const std::string long_line(3000, 'a');
  std::string many;
  for (int i = 0; i < 1000; ++i) many += cat("x", i, ": 1\r\n");
  const Refusal refusals[] = {
      {"not http", "hello\r\n\r\n", "400"},
      {"bad version", "GET / HTTP/3.7\r\n\r\n", "400"},
      {"length and chunked", post + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nhi", "400"},
      {"chunked and length", post + "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\nhi", "400"},
      {"two lengths", post + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi", "400"},
      {"negative length", post + "Content-Length: -1\r\n\r\n", "400"},
      {"huge length", post + "Content-Length: 99999999999999999999999\r\n\r\n", "400"},
      {"negative chunk", post + "Transfer-Encoding: chunked\r\n\r\n-1\r\nabc\r\n", "400"},
      {"huge chunk", post + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc\r\n", "400"},
      {"gzip and chunked", post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "400"},
      {"unknown transfer encoding", post + "Transfer-Encoding: identity\r\n\r\n", "400"},
      {"no host", "GET / HTTP/1.1\r\n\r\n", "400"},
      {"two hosts", post + "Host: i\r\nContent-Length: 0\r\n\r\n", "400"},
      {"content encoding", post + "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nhi", "415"},
      {"declared too long", post + "Content-Length: 1001\r\n\r\n", "413"},
      {"chunked too long", post + "Transfer-Encoding: chunked\r\n\r\n3e9\r\n" + std::string(1001, 'a'), "413"},
      {"long header", post + "x: " + long_line + "\r\n\r\n", "431"},
      {"long target", "GET /" + long_line + " HTTP/1.1\r\n\r\n", "431"},
      {"many headers", post + many + "\r\n", "431"},
      {"endless header", post + "x: " + long_line, "431"},
      {"long chunk extension", post + "Transfer-Encoding: chunked\r\n\r\n1;" + long_line, "431"},
  };
  for (const Refusal& r : refusals) {
    const std::string got = ask(r.request);
    EXPECT_TRUE(got.starts_with(cat("HTTP/1.1 ", r.status))) << r.name << ": " << got;
    EXPECT_NE(got.find("Connection: close"), got.npos) << r.name;
    EXPECT_NE(got.find("{\"error\":{"), got.npos) << r.name;
  }
  EXPECT_NE(ask("GET /after HTTP/1.0\r\n\r\n").find("GET /after"), std::string::npos);
}

// A refusal does not depend on what came before it on its connection.
TEST_F(HttpServerTest, RefusesOnAUsedConnection) {
  HttpLimits limits;
  limits.max_body_bytes = 1000;
  limits.max_header_bytes = 2000;
  limits.header_timeout = limits.body_timeout = milliseconds(150);
  start(limits);
  const std::string post = "POST / HTTP/1.1\r\nHost: h\r\n";
  const Refusal refusals[] = {
      {"malformed", "BAD\r\n\r\n", "400"},
      {"a slow head", "GET / HT", "408"},
      {"a slow body", post + "Content-Length: 5\r\n\r\nab", "408"},
      {"a long body", post + "Content-Length: 1001\r\n\r\n", "413"},
      {"an encoded body", post + "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nhi", "415"},
      {"a long head", "GET /" + std::string(3000, 'a'), "431"},
  };
  for (const Refusal& r : refusals) {
    for (const int before : {0, 1, 3}) {
      RawClient client = connect();
      for (int i = 0; i < before; ++i) {
        client.send("GET /before HTTP/1.1\r\nHost: h\r\n\r\n");
        EXPECT_TRUE(client.read_until("GET /before").starts_with("HTTP/1.1 200"));
      }
      client.send(r.request);
      EXPECT_TRUE(client.read_all().starts_with(cat("HTTP/1.1 ", r.status))) << r.name << " after " << before;
      EXPECT_FALSE(client.is_open());
    }
  }
}

int64_t num_descriptors() {
  const std::filesystem::directory_iterator open("/proc/self/fd");
  return std::distance(begin(open), end(open));
}

TEST_F(HttpServerTest, NoDescriptorStaysBehindAClientThatLeft) {
  driver_ = std::make_shared<TickingDriver>(0);
  start();
  const int64_t before = num_descriptors();
  const std::string get = "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n";
  const std::string streams[] = {
      get + "BAD\r\n\r\n",
      "BAD\r\n\r\n" + std::string(200'000, 'a'),
      get + "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n" + std::string(200'000, 'a'),
      "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n" + std::string(200'000, 'a'),
      "GET /big HTTP/1.1\r\nHost: h\r\n\r\n" + get,
      "GET /1 HT",
      "",
  };
  for (int i = 0; i < 50; ++i) {
    for (const std::string& stream : streams) {
      RawClient client = connect();
      client.send(stream);
      if (i % 2 == 1) client.reset();
    }
  }
  EXPECT_TRUE(wait_for([&] { return num_descriptors() <= before; })) << num_descriptors() << " from " << before;
}

// As `nc -N` is after its request.
TEST_F(HttpServerTest, AClientThatEndedItsInputGetsItsAnswers) {
  start();
  const auto ask_and_end = [&](std::string_view bytes) {
    RawClient client = connect();
    client.send(bytes);
    client.end_input();
    return client.read_all();
  };
  const std::string get = "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n";
  EXPECT_TRUE(ask_and_end(get).ends_with("GET /1 "));
  EXPECT_TRUE(ask_and_end("GET /three HTTP/1.1\r\nHost: h\r\n\r\n").ends_with("2\r\nxx\r\n0\r\n\r\n"));
  EXPECT_EQ(ask_and_end("GET /big HTTP/1.1\r\nHost: h\r\n\r\n").substr(0, 12), "HTTP/1.1 200");
  std::string many;
  for (int i = 0; i < 100; ++i) many += get;
  const std::string got = ask_and_end(many);
  int64_t answers = 0;
  for (size_t at = got.find("HTTP/1.1 200"); at != got.npos; at = got.find("HTTP/1.1 200", at + 1)) ++answers;
  EXPECT_EQ(answers, 100);
  EXPECT_TRUE(ask_and_end("GET /1 HT").starts_with("HTTP/1.1 400"));
  EXPECT_TRUE(ask_and_end("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\na").starts_with("HTTP/1.1 400"));
  EXPECT_EQ(ask_and_end(""), "");
}

TEST_F(HttpServerTest, AClientThatEndedItsInputIsAnsweredLater) {
  driver_ = std::make_shared<TickingDriver>(0);
  std::shared_ptr<Exchange> waiting;
  std::mutex mutex;
  server_.emplace(HttpLimits{}, [&](HttpRequest&&, std::shared_ptr<Exchange> exchange) {
    std::lock_guard lock(mutex);
    waiting = std::move(exchange);
  });
  ASSERT_TRUE(server_->listen("127.0.0.1", 0).ok());
  thread_ = std::thread([this] { server_->run(); });
  RawClient client = connect();
  client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  client.end_input();
  EXPECT_EQ(client.read_until("HTTP/1.1 "), "HTTP/1.1 ");  // how the server finds out whether the client still reads
  std::lock_guard lock(mutex);
  ASSERT_NE(waiting, nullptr);
  waiting->reply({200, "late", "text/plain", {}});
  const std::string rest = client.read_all();
  EXPECT_TRUE(rest.starts_with("200 OK\r\n")) << rest;
  EXPECT_TRUE(rest.ends_with("\r\n\r\nlate")) << rest;
}

// Of one address, as behind a proxy: each key has a share of its own, also on a connection that both use.
TEST_F(HttpServerTest, AClientIsItsKeyWhereItHasOne) {
  HttpLimits limits;
  limits.max_total_bytes = 16 << 20;
  limits.max_client_bytes = 4 << 20;
  start(limits, [](HttpRequest& request) {
    request.label.client = request.header("key");
    return std::optional<HttpResponse>();
  });
  const auto post = [](std::string_view key, size_t announced, size_t sent) {
    return cat("POST / HTTP/1.1\r\nHost: h\r\nkey: ", key, "\r\nContent-Length: ", announced, "\r\n\r\n",
               std::string(sent, 'a'));
  };
  RawClient big = connect();
  big.send("GET /first HTTP/1.1\r\nHost: h\r\nkey: b\r\n\r\n" + post("a", 3'500'000, 3'400'000));
  ASSERT_TRUE(wait_for([&] {
    RawClient other = connect();
    other.send(post("a", 300'000, 0));
    return other.read_to_end(milliseconds(100)).value_or("").starts_with("HTTP/1.1 429");
  }));
  RawClient other = connect();
  other.send(post("b", 3'500'000, 3'500'000));
  EXPECT_NE(other.read_until("POST / aaa").find("HTTP/1.1 200"), std::string::npos);
}

TEST_F(HttpServerTest, SlowRequestsGet408AndIdleOnesAreClosed) {
  HttpLimits limits;
  limits.header_timeout = limits.body_timeout = limits.idle_timeout = milliseconds(150);
  start(limits);
  EXPECT_TRUE(ask("GET / HT").starts_with("HTTP/1.1 408"));
  EXPECT_TRUE(ask("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab").starts_with("HTTP/1.1 408"));
  EXPECT_EQ(ask(""), "");
}

// A body is refused when its head announces more than there is room for, or when what came of it is more.
TEST_F(HttpServerTest, BytesOfRequestsAreBounded) {
  HttpLimits limits;
  limits.max_total_bytes = 8 << 20;
  limits.max_client_bytes = 4 << 20;
  start(limits);
  const std::string announced = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: ";
  const std::string chunked = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3d0900\r\n";
  EXPECT_TRUE(ask(announced + "4000000\r\n\r\n").starts_with("HTTP/1.1 429"));
  const std::string got = ask(chunked + std::string(4'000'000, 'a'));
  EXPECT_TRUE(got.starts_with("HTTP/1.1 429")) << got.substr(0, 200);
  EXPECT_NE(got.find("\r\nRetry-After: 1\r\n"), got.npos);
  // The last eighth is for small ones.
  RawClient big = connect();
  big.send(announced + "3500000\r\n\r\n" + std::string(3'400'000, 'a'));
  const auto has_room = [&] {
    RawClient client = connect();
    client.send(announced + "300000\r\n\r\n");
    return !client.read_to_end(milliseconds(100)).value_or("").starts_with("HTTP/1.1 429");
  };
  ASSERT_TRUE(wait_for([&] { return !has_room(); }));
  EXPECT_NE(ask("POST /small HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 200000\r\n\r\n" +
                std::string(200'000, 'a'))
                .find("POST /small aaa"),
            std::string::npos);
  big.reset();
  EXPECT_TRUE(wait_for(has_room));
}

// A request's bytes count until whoever handles it lets go of it; a client that announces and does not send holds none.
TEST_F(HttpServerTest, BytesCountUntilTheRequestIsDealtWith) {
  HttpLimits limits;
  limits.max_total_bytes = 4 << 20;
  std::mutex mutex;
  std::vector<HttpRequest> held;
  server_.emplace(limits, [&](HttpRequest&& request, std::shared_ptr<Exchange> exchange) {
    std::lock_guard lock(mutex);
    held.push_back(std::move(request));
    exchange->reply({200, "taken", "text/plain", {}});
  });
  ASSERT_TRUE(server_->listen("127.0.0.1", 0).ok());
  thread_ = std::thread([this] { server_->run(); });
  const std::string post = "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 1000000\r\n\r\n";
  const std::string body(1'000'000, 'a');
  std::vector<RawClient> waiting;
  for (int i = 0; i < 10; ++i) {
    waiting.push_back(connect());
    waiting.back().send(post);
  }
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(ask(post + body).starts_with("HTTP/1.1 200"));
  EXPECT_TRUE(ask(post + body).starts_with("HTTP/1.1 503"));
  {
    std::lock_guard lock(mutex);
    held.clear();
  }
  EXPECT_TRUE(ask(post + body).starts_with("HTTP/1.1 200"));
  std::lock_guard lock(mutex);
  held.clear();
}

TEST_F(HttpServerTest, ExpectContinue) {
  start();
  RawClient client = connect();
  client.send("POST /e HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  EXPECT_EQ(client.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("hi");
  EXPECT_TRUE(client.read_until("POST /e hi").starts_with("HTTP/1.1 200"));
}

TEST_F(HttpServerTest, NoticesAClientThatLeaves) {
  driver_ = std::make_shared<TickingDriver>(0);
  const auto waiting = driver_;
  start();
  {
    RawClient client = connect();
    client.send("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
    ASSERT_TRUE(wait_for([&] { return waiting->asked.load(); }));
  }
  EXPECT_TRUE(wait_for([&] { return waiting->left.load(); }));
  const auto endless = std::make_shared<TickingDriver>(1LL << 40, 1 << 20);
  driver_ = endless;
  {
    RawClient client = connect();
    client.send("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
    client.read_until("xx");
  }
  EXPECT_TRUE(wait_for([&] { return endless->left.load(); }));
}

TEST_F(HttpServerTest, NoticesAClientThatLeavesWithMuchBehindItsRequest) {
  start();
  for (const size_t behind : {size_t{1}, size_t{64} << 10, size_t{500} << 10, size_t{4} << 20}) {
    for (const bool reset : {false, true}) {
      const auto waiting = driver_ = std::make_shared<TickingDriver>(0);
      RawClient client = connect();
      client.send("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n" + std::string(behind, 'a'));
      ASSERT_TRUE(wait_for([&] { return waiting->asked.load(); }));
      EXPECT_FALSE(waiting->left);
      if (reset) {
        client.reset();
      } else {
        const RawClient gone = std::move(client);
      }
      EXPECT_TRUE(wait_for([&] { return waiting->left.load(); })) << behind;
    }
  }
}

TEST_F(HttpServerTest, WhoSendsWithoutEndDuringAnAnswerIsCut) {
  const auto waiting = driver_ = std::make_shared<TickingDriver>(0);
  start();
  RawClient client = connect();
  client.send("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n" + std::string(80 << 20, 'a'));
  EXPECT_TRUE(wait_for([&] { return waiting->left.load(); }));
}

TEST_F(HttpServerTest, AnAnswerThatDoesNotComeIsA503) {
  HttpLimits limits;
  limits.answer_timeout = milliseconds(150);
  const auto waiting = driver_ = std::make_shared<TickingDriver>(0);
  start(limits);
  EXPECT_TRUE(ask("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n").starts_with("HTTP/1.1 503"));
  EXPECT_TRUE(waiting->left);
}

TEST_F(HttpServerTest, WhatIsUnansweredAtTheEndGetsA503) {
  const auto waiting = driver_ = std::make_shared<TickingDriver>(0);
  start();
  RawClient unanswered = connect(), half = connect(), used = connect(), idle = connect();
  unanswered.send("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
  half.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab");
  used.send("GET /1 HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_TRUE(used.read_until("GET /1").starts_with("HTTP/1.1 200"));
  used.send("GET / HT");
  ASSERT_TRUE(wait_for([&] { return waiting->asked.load(); }));
  std::this_thread::sleep_for(milliseconds(100));  // the halves are there too: an idle connection would just be closed
  const auto begin = std::chrono::steady_clock::now();
  server_->stop(milliseconds(300));
  EXPECT_EQ(idle.read_all(), "");
  EXPECT_TRUE(used.read_all().starts_with("HTTP/1.1 503"));
  EXPECT_TRUE(half.read_all().starts_with("HTTP/1.1 503"));
  EXPECT_TRUE(unanswered.read_all().starts_with("HTTP/1.1 503"));
  EXPECT_GE(std::chrono::steady_clock::now() - begin, milliseconds(300));
  thread_.join();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
  server_.reset();
}

TEST_F(HttpServerTest, TransfersMayTakeLongWhileTheyMove) {
  HttpLimits limits;
  limits.write_timeout = limits.body_timeout = milliseconds(400);
  start(limits);
  RawClient reader = connect();
  reader.send("GET /big HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  size_t got = 0;
  const auto begin = std::chrono::steady_clock::now();
  while (true) {
    const size_t n = reader.read_some(256 << 10).size();
    if (n == 0) break;
    got += n;
    std::this_thread::sleep_for(milliseconds(40));
  }
  EXPECT_GT(got, size_t{8} << 20);
  EXPECT_GT(std::chrono::steady_clock::now() - begin, limits.write_timeout * 2);

  RawClient writer = connect();
  writer.send("POST /slow HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 1000000\r\n\r\n");
  for (int i = 0; i < 10; ++i) {
    writer.send(std::string(100'000, 'a'));
    std::this_thread::sleep_for(milliseconds(100));
  }
  EXPECT_TRUE(writer.read_all().starts_with("HTTP/1.1 200"));
}

TEST_F(HttpServerTest, ASlowReaderIsNotBufferedForAndTimesOut) {
  HttpLimits limits;
  limits.write_timeout = milliseconds(300);
  driver_ = std::make_shared<TickingDriver>(1LL << 40, 1 << 20);
  start(limits);
  RawClient client = connect();
  client.send("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_TRUE(wait_for([&] { return driver_->left.load(); }));
  EXPECT_LT(driver_->sent.load(), 32);  // what the two kernels' socket buffers took, and one piece more
}

TEST_F(HttpServerTest, IdleSocketsGiveWayToNewOnes) {
  HttpLimits limits;
  limits.max_connections = 20;
  start(limits);
  std::vector<RawClient> idle;
  for (int i = 0; i < 200; ++i) idle.push_back(connect());
  EXPECT_NE(ask("GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").find("GET /x"), std::string::npos);
  int64_t open = 0;
  for (RawClient& client : idle) open += client.is_open();
  EXPECT_LE(open, 20);
  EXPECT_GE(open, 1);
}

TEST_F(HttpServerTest, HalfSentRequestsGiveWayToNewOnes) {
  HttpLimits limits;
  limits.max_connections = 20;
  start(limits);
  for (const char* half : {"GET / HT", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab"}) {
    std::vector<RawClient> clients;
    for (int i = 0; i < 40; ++i) {
      clients.push_back(connect());
      clients.back().send(half);
    }
    EXPECT_NE(ask("GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").find("GET /x"), std::string::npos);
  }
}

TEST_F(HttpServerTest, OneClientCannotTakeAllConnections) {
  HttpLimits limits;
  limits.max_connections = 10;
  limits.max_client_connections = 2;
  driver_ = std::make_shared<TickingDriver>(0);
  start(limits);
  RawClient busy[] = {connect(), connect()};
  for (RawClient& client : busy) {
    client.send("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
    ASSERT_TRUE(wait_for([&] { return driver_->asked.exchange(false); }));
  }
  EXPECT_EQ(ask("GET /x HTTP/1.1\r\nHost: h\r\n\r\n"), "");
  RawClient other(server_->port(), "127.0.0.2");
  other.send("GET /x HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_NE(other.read_until("GET /x").find("HTTP/1.1 200"), std::string::npos);
}

TEST_F(HttpServerTest, AllBusyRefusesNewConnections) {
  HttpLimits limits;
  limits.max_connections = 1;
  driver_ = std::make_shared<TickingDriver>(1LL << 40, 1 << 20);
  start(limits);
  RawClient busy = connect();
  busy.send("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
  busy.read_until("xx");
  EXPECT_EQ(ask("GET /x HTTP/1.1\r\nHost: h\r\n\r\n"), "");
}

}  // namespace
}  // namespace hearth
