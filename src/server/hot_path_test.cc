// Streams over real HTTP, from the engine's thread to the socket: what a token costs in allocations.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "api/test_engine.h"
#include "base/log.h"
#include "server/http_server.h"
#include "server/raw_client.h"
#include "server/routes.h"
#include "sim/paced_runner.h"

namespace {
std::atomic<int64_t> allocations = 0;
}

// Of the whole test program. Inlined, GCC would take new and free for a mismatch. Asio asks aligned_alloc for handlers.
[[gnu::noinline]] void* operator new(size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }
extern "C" void* aligned_alloc(size_t alignment, size_t size) noexcept {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* memory = nullptr;
  return posix_memalign(&memory, alignment, size) == 0 ? memory : nullptr;
}

namespace hearth {
namespace {

class Client : public RawClient {
 public:
  using RawClient::RawClient;
  // What has come, thrown away; without an allocation.
  void drop() {
    char buffer[16 << 10];
    while (recv(fd(), buffer, sizeof buffer, MSG_DONTWAIT) > 0) {
    }
  }
};

TEST(HotPath, NoAllocationAToken) {
  set_log_level(LogLevel::kError);
  constexpr int64_t kStreams = 256, kTokens = 4000;
  SteadyClock clock;
  RunnerLimits limits{.num_blocks = kStreams * (kTokens / kBlockSize + 2), .max_model_len = kTokens + kBlockSize};
  limits.vocab_size = limits.max_edits = kTestVocabulary;
  limits.max_tokens = limits.max_sequences = limits.max_logits = kStreams;
  limits.max_logprobs = 1;
  EngineOptions options;
  options.max_num_seqs = options.max_num_batched_tokens = kStreams;
  options.max_model_len = limits.max_model_len;
  options.max_logprobs = 1;
  std::atomic<int64_t> ended[1] = {0};
  const std::unique_ptr<Engine> engine =
      make_engine(std::make_unique<PacedRunner>(limits, std::chrono::milliseconds(5), std::vector<int32_t>{'x'}, ended),
                  options, clock);
  Metrics metrics("test");
  const std::unique_ptr<Tokenizer> tokenizer = make_test_tokenizer();
  const Serving serving({{"test"}, {kTestVocabulary, limits.max_model_len, 1, 1}}, *tokenizer, nullptr, *engine, clock,
                        &metrics);
  Routes routes(ApiKeys({}), Cors(std::vector<std::string>{}), 2);
  HttpServer server(
      HttpLimits{},
      [&](HttpRequest&& request, std::shared_ptr<Exchange> exchange) {
        routes.handle(std::move(request), std::move(exchange));
      },
      [&](HttpRequest& request) { return routes.admit(request); });
  ASSERT_TRUE(server.listen("127.0.0.1", 0).ok());
  std::thread io([&] { server.run(); });
  routes.set_model(serving, metrics);

  const std::string body = cat(R"({"prompt":"a","stream":true,"ignore_eos":true,"max_tokens":)", kTokens, "}");
  const std::string request = cat("POST /v1/completions HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n",
                                  "Content-Length: ", body.size(), "\r\n\r\n", body);
  std::vector<Client> clients;
  for (int64_t i = 0; i < kStreams; ++i) clients.emplace_back(server.port()).send(request);

  // The first tokens make what lasts. Then allocations beside tokens; those of a step count, shared by its tokens.
  const auto read_until = [&](auto&& condition) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!condition() && std::chrono::steady_clock::now() < end) {
      for (Client& client : clients) client.drop();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return condition();
  };
  EXPECT_TRUE(read_until([&] { return engine->stats().generation_tokens >= kStreams * 100; }));
  const int64_t tokens_before = engine->stats().generation_tokens, before = allocations;
  EXPECT_TRUE(read_until([&] { return engine->stats().generation_tokens >= tokens_before + kStreams * 100; }));
  const int64_t made = allocations - before, tokens = engine->stats().generation_tokens - tokens_before;
  RecordProperty("allocations_per_1000_tokens", std::to_string(made * 1000 / tokens));
  EXPECT_LT(made, tokens / 4) << made << " allocations for " << tokens << " tokens";

  clients.clear();
  routes.set_draining();
  server.stop(std::chrono::milliseconds(100));
  io.join();
}

}  // namespace
}  // namespace hearth
