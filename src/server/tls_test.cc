#include "server/tls.h"

#include <thread>

#include "base/clock.h"
#include "server/http_server.h"
#include "server/tls_client.h"
#include "weights/test_files.h"

namespace hearth {
namespace {

using std::chrono::milliseconds;
constexpr std::string_view kGet = "GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

std::shared_ptr<const TlsContext> context(const test::TempFolder& folder, const char* name = "localhost") {
  const auto [certificate, key] = make_certificate(name);
  auto loaded = TlsContext::load(folder.write("cert.pem", certificate), folder.write("key.pem", key));
  EXPECT_TRUE(loaded.ok()) << loaded.status().message();
  return std::move(loaded).value();
}

class Tls : public testing::Test {
 protected:
  void start(HttpLimits limits = {}) {
    server_.emplace(limits, [this](HttpRequest&& request, std::shared_ptr<Exchange> exchange) {
      exchange->reply(
          {200, cat(request.path, " ", request.body.size(), " ", std::string(big_, 'b')), "text/plain", {}});
    });
    server_->use_tls(context(folder_));
    ASSERT_TRUE(server_->listen("127.0.0.1", 0).ok());
    io_ = std::thread([this] { server_->run(); });
  }
  void TearDown() override {
    if (!server_) return;
    server_->stop(milliseconds(10));
    io_.join();
  }

  const test::TempFolder folder_;
  size_t big_ = 0;
  std::optional<HttpServer> server_;
  std::thread io_;
};

TEST_F(Tls, AnswersInBothVersions) {
  start();
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    TlsClient client(server_->port(), version);
    ASSERT_TRUE(client.connected());
    client.send(kGet);
    const auto got = client.read_to_end(milliseconds(10'000));
    ASSERT_TRUE(got);
    EXPECT_TRUE(got->starts_with("HTTP/1.1 200")) << *got;
    EXPECT_TRUE(got->ends_with("/a 0 ")) << *got;
  }
  EXPECT_FALSE(TlsClient(server_->port(), TLS1_1_VERSION).connected());
}

TEST_F(Tls, ManyRequestsAndLargeBodiesOnOneConnection) {
  big_ = 3 << 20;
  start();
  TlsClient client(server_->port());
  std::thread sender([&] {
    for (int i = 0; i < 3; ++i) {
      client.send(
          cat("POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: ", 2 << 20, "\r\n\r\n", std::string(2 << 20, 'x')));
    }
    client.send(kGet);
  });
  sender.join();
  const auto got = client.read_to_end(milliseconds(20'000));
  ASSERT_TRUE(got);
  int answers = 0;
  for (size_t at = got->find("HTTP/1.1 200"); at != got->npos; at = got->find("HTTP/1.1 200", at + 1)) ++answers;
  // What is pipelined beyond a limit ends the connection after the answer in work.
  EXPECT_GE(answers, 1);
  EXPECT_GT(got->size(), big_);
}

TEST_F(Tls, PlainHttpIsToldSo) {
  start();
  RawClient client(server_->port());
  client.send(kGet);
  const std::string got = client.read_all();
  EXPECT_TRUE(got.starts_with("HTTP/1.1 400")) << got;
  EXPECT_NE(got.find("speaks HTTPS"), got.npos) << got;
}

TEST_F(Tls, GarbageAndSilenceEnd) {
  HttpLimits limits;
  limits.header_timeout = milliseconds(300);
  start(limits);
  RawClient garbage(server_->port()), silent(server_->port());
  garbage.send(std::string(500, '\x16'));
  EXPECT_TRUE(garbage.read_to_end(milliseconds(5000)));
  EXPECT_EQ(silent.read_to_end(milliseconds(5000)), "");
  TlsClient other(server_->port());  // nobody else noticed
  other.send(kGet);
  EXPECT_TRUE(other.read_to_end(milliseconds(5000))->starts_with("HTTP/1.1 200"));
}

TEST_F(Tls, HandshakesThatWaitGiveWay) {
  HttpLimits limits;
  limits.max_connections = 4;
  start(limits);
  std::vector<RawClient> silent;
  for (int i = 0; i < 8; ++i) silent.emplace_back(server_->port());
  TlsClient client(server_->port());
  ASSERT_TRUE(client.connected());
  client.send(kGet);
  EXPECT_TRUE(client.read_to_end(milliseconds(5000))->starts_with("HTTP/1.1 200"));
}

TEST_F(Tls, AnotherCertificateIsForNewConnections) {
  start();
  TlsClient before(server_->port());
  server_->use_tls(context(folder_, "renewed"));
  TlsClient after(server_->port());
  EXPECT_EQ(before.certificate_name(), "localhost");
  EXPECT_EQ(after.certificate_name(), "renewed");
  before.send(kGet);
  EXPECT_TRUE(before.read_to_end(milliseconds(5000))->starts_with("HTTP/1.1 200"));
}

TEST(TlsContext, RefusesInOneLine) {
  const test::TempFolder folder;
  const auto [certificate, key] = make_certificate();
  const std::string cert_file = folder.write("cert.pem", certificate), key_file = folder.write("key.pem", key);
  const std::string both = folder.write("both.pem", certificate + key);
  const std::string other = folder.write("other.pem", make_certificate().second);
  const std::string garbage = folder.write("garbage.pem", "-----BEGIN CERTIFICATE-----\nabc\n");
  EXPECT_TRUE(TlsContext::load(cert_file, key_file).ok());
  EXPECT_TRUE(TlsContext::load(both, "").ok());
  const auto message = [](const std::string& c, const std::string& k) {
    return std::string(TlsContext::load(c, k).status().message());
  };
  EXPECT_TRUE(message(garbage, key_file).starts_with("--ssl-certfile holds no certificate"));
  EXPECT_TRUE(message("/none", key_file).starts_with("--ssl-certfile holds no certificate"));
  EXPECT_TRUE(message(cert_file, other).starts_with("--ssl-keyfile holds no key of the certificate"));
  EXPECT_TRUE(message(cert_file, garbage).starts_with("--ssl-keyfile holds no key"));
  EXPECT_TRUE(message(cert_file, "").starts_with("--ssl-certfile, without an --ssl-keyfile, holds no key"));
}

}  // namespace
}  // namespace hearth
