// Fuzz target: any bytes on a connection to the whole API. Each connection ends, and each answer is one of HTTP.
// An input's first byte cuts the rest in pieces.
#include "api/test_engine.h"
#include "base/log.h"
#include "server/http_server.h"
#include "server/raw_client.h"
#include "server/routes.h"

using namespace hearth;

namespace {

class FuzzServer {
 public:
  FuzzServer() {
    set_log_level(LogLevel::kError);
    HEARTH_CHECK(server_.listen("127.0.0.1", 0).ok());
    routes_.set_model(serving_, metrics_);
    std::thread([this] { server_.run(); }).detach();  // as long as the process
  }
  int port() const { return server_.port(); }

 private:
  static HttpLimits limits() {
    HttpLimits out;
    out.max_header_bytes = 4096;
    out.max_body_bytes = 16 << 10;
    return out;
  }

  SteadyClock clock_;
  Metrics metrics_{"test"};
  const std::unique_ptr<Tokenizer> tokenizer_ = make_test_tokenizer();
  const ChatTemplate chat_template_ = make_test_template();
  TestEngine engine_{{.keeps_record = false}};
  Serving serving_{{{"test"}, {kTestVocabulary, 500, 5, 8}}, *tokenizer_, &chat_template_, engine_, clock_, &metrics_};
  Routes routes_{ApiKeys({}), Cors({"https://a.example"}), 2};
  HttpServer server_{limits(),
                     [this](HttpRequest&& request, std::shared_ptr<Exchange> exchange) {
                       routes_.handle(std::move(request), std::move(exchange));
                     },
                     [this](HttpRequest& request) { return routes_.admit(request); }};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static FuzzServer& server = *new FuzzServer;
  if (size == 0) return 0;
  const size_t piece = data[0] == 0 ? size : data[0];
  RawClient client(server.port());
  std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  for (; rest.size() > piece * 8; rest.remove_prefix(piece)) client.send(rest.substr(0, piece));
  client.send(rest);
  client.end_input();
  const auto got = client.read_to_end(std::chrono::seconds(80));
  HEARTH_CHECK(got);  // else the connection stays open
  HEARTH_CHECK(got->empty() || got->starts_with("HTTP/1.1 "));
  return 0;
}
