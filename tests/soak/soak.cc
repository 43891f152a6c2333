// A server on the simulated runner under clients of every kind, for HEARTH_SOAK_SECONDS (10): whole and streamed
// answers, cancels, slow readers, bodies of every size, cut and broken ones. It is stopped under load and started
// again, round after round. Nothing that was taken may be lost, the stop keeps its limit, the same request gets the
// same answer, and memory, descriptors and KV blocks return to where they were. Run it under the address and the thread
// sanitizer.
#include <malloc.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <thread>

#include "api/test_engine.h"
#include "base/log.h"
#include "engine/runner.h"
#include "server/http_server.h"
#include "server/raw_client.h"
#include "server/routes.h"
#include "sim/simulated_runner.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
extern "C" size_t __sanitizer_get_current_allocated_bytes();  // GCC has no header of it
#endif

namespace hearth {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr int kClients = 24;
constexpr int64_t kMaxBody = 4 << 20, kMaxModelLen = 3000;
constexpr auto kRound = std::chrono::seconds(6), kPatience = std::chrono::seconds(120);
constexpr auto kGrace = std::chrono::seconds(1);
constexpr int64_t kMostLeft = 128 << 10;  // bytes: what the first uses of libraries may keep

std::atomic<int64_t> failures = 0;

template <typename... Args>
void fail(const Args&... what) {
  if (++failures <= 20) std::fprintf(stderr, "FAILED: %s\n", cat(what...).c_str());
}

int64_t allocated_bytes() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return static_cast<int64_t>(__sanitizer_get_current_allocated_bytes());
#else
  return static_cast<int64_t>(mallinfo2().uordblks + mallinfo2().hblkhd);
#endif
}

int64_t num_descriptors() {
  const std::filesystem::directory_iterator open("/proc/self/fd");
  return std::distance(begin(open), end(open));
}

// A step takes a moment, so that cancels and stops come in the middle of things.
class SlowRunner final : public Runner {
 public:
  explicit SlowRunner(const SimulatedRunner::Options& options) : simulated_(options, clock_) {}
  RunnerLimits limits() const override { return simulated_.limits(); }
  void submit(const StepPlan& plan) override { simulated_.submit(plan); }
  StepResult wait() override {
    std::this_thread::sleep_for(std::chrono::microseconds(300));
    return simulated_.wait();
  }

 private:
  ManualClock clock_;
  SimulatedRunner simulated_;
};

// What `hearth serve` puts together, on the simulated runner.
class Server {
 public:
  Server() {
    metrics_.emplace("test");
    engine_ = make_engine(std::make_unique<SlowRunner>(runner_options()), engine_options(), clock_);
    ServingOptions serving{{"test"}, {kTestVocabulary, kMaxModelLen, 5, 16}};
    serving.end_tokens = {kTestEnd};
    serving_.emplace(std::move(serving), *tokenizer_, &chat_template_, *engine_, clock_, &*metrics_);
    routes_.emplace(ApiKeys({"secret", "other"}), Cors({"*"}), 2);
    HttpLimits limits;
    limits.max_body_bytes = kMaxBody;
    limits.max_total_bytes = 48 << 20;
    limits.max_client_bytes = 40 << 20;
    server_.emplace(
        limits,
        [this](HttpRequest&& request, std::shared_ptr<Exchange> exchange) {
          routes_->handle(std::move(request), std::move(exchange));
        },
        [this](HttpRequest& request) { return routes_->admit(request); });
    HEARTH_CHECK(server_->listen("127.0.0.1", 0).ok());
    routes_->set_model(*serving_, *metrics_);
    io_ = std::thread([this] { server_->run(); });
  }
  ~Server() { stop(Duration(0)); }

  int port() const { return server_->port(); }
  EngineStats stats() const { return engine_->stats(); }
  // As SIGTERM does.
  void stop(Duration timeout) {
    if (!io_.joinable()) return;
    const TimePoint end = clock_.now() + timeout;
    const auto left = [&] { return std::max(end - clock_.now(), Duration(0)); };
    routes_->set_draining();
    routes_->finish_calls(left());
    engine_->drain(left());
    server_->stop(left());
    io_.join();
    routes_->finish_calls(Duration(0));
  }

 private:
  static SimulatedRunner::Options runner_options() {
    SimulatedRunner::Options out;
    RunnerLimits& limits = out.limits;
    limits.block_size = 16;
    limits.num_blocks = 600;  // three contexts: sequences are preempted
    limits.vocab_size = kTestVocabulary;
    limits.max_model_len = kMaxModelLen;
    limits.max_sequences = 16;
    limits.max_tokens = 512;
    limits.max_logits = 64;
    limits.max_logprobs = 5;
    limits.max_edits = 1 << 16;
    out.model.vocab_size = kTestVocabulary;
    return out;
  }
  static EngineOptions engine_options() {
    EngineOptions out;
    out.max_num_seqs = 16;
    out.max_num_batched_tokens = 512;
    out.max_model_len = kMaxModelLen;
    out.max_logprobs = 5;
    out.end_tokens = {kTestEnd};
    return out;
  }

  SteadyClock clock_;
  std::optional<Metrics> metrics_;
  const std::unique_ptr<Tokenizer> tokenizer_ = make_test_tokenizer();
  const ChatTemplate chat_template_ = make_test_template();
  std::unique_ptr<Engine> engine_;
  std::optional<Serving> serving_;
  std::optional<Routes> routes_;
  std::optional<HttpServer> server_;
  std::thread io_;
};

// What must be the same in every round: a request's number, its answer's text.
std::mutex known_mutex;
std::map<int64_t, std::string> known;
std::atomic<int64_t> answers = 0, cancels = 0, refusals = 0;

class Client {
 public:
  Client(uint64_t seed, int port, const std::atomic<bool>& stopping)
      : random_(seed), port_(port), stopping_(stopping) {}

  void run() {
    while (!stopping_) {
      switch (up_to(11)) {
        case 0: leave_in_the_middle(); break;
        case 1: read_slowly(); break;
        case 2: send_a_large_body(); break;
        case 3: send_rubbish(); break;
        case 4: cut_short(); break;
        case 5: ask_probes(); break;
        case 6: too_late(); break;
        default: ask_and_compare();
      }
    }
  }

 private:
  int64_t up_to(int64_t most) { return std::uniform_int_distribution<int64_t>(0, most)(random_); }
  std::string post(std::string_view path, std::string_view body, std::string_view headers = {}) {
    return cat("POST ", path, " HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer ",
               up_to(1) ? "secret" : "other", "\r\nContent-Type: application/json\r\n", headers,
               "Content-Length: ", body.size(), "\r\n\r\n", body);
  }
  static int status(std::string_view got) {
    return got.size() < 12 ? 0 : std::atoi(std::string(got.substr(9, 3)).c_str());
  }

  // An answer that nobody may lose but a server that stops.
  std::string ask(const std::string& request, std::initializer_list<int> wanted) {
    RawClient client(port_);
    client.send(request);
    const auto got = client.read_to_end(std::chrono::duration_cast<milliseconds>(kPatience));
    if (!got) {
      fail("a connection stays open after ", request.substr(0, 60));
      return {};
    }
    const int is = status(*got);
    const bool stops = stopping_ && (got->empty() || is == 503 || is == 200);
    if (!stops && std::find(wanted.begin(), wanted.end(), is) == wanted.end()) {
      fail("status ", is, " for ", request.substr(0, 40), " of ", request.size(), " bytes: ", got->substr(0, 300));
    }
    return is == 200 ? *got : std::string();
  }

  std::string generation(int64_t number, bool stream) {
    std::mt19937_64 random(static_cast<uint64_t>(number));
    const auto draw = [&](int64_t most) { return std::uniform_int_distribution<int64_t>(0, most)(random); };
    Json body = {{"prompt", std::string(static_cast<size_t>(1 + draw(draw(3) == 0 ? 2000 : 60)),
                                        static_cast<char>('a' + draw(25)))},
                 {"max_tokens", 1 + draw(draw(4) == 0 ? 400 : 30)},
                 {"seed", number},
                 {"temperature", draw(1) ? 1.0 : 0.0}};
    if (draw(2) == 0) body["ignore_eos"] = true;
    if (draw(4) == 0) body["n"] = 2;
    if (draw(4) == 0) body["logprobs"] = 3;
    if (draw(4) == 0) body["presence_penalty"] = 0.5;
    if (draw(4) == 0) body["stop"] = {"ab", "zz"};
    if (draw(5) == 0) body["priority"] = draw(3);
    if (draw(6) == 0) body["cache_salt"] = "salt";
    if (draw(8) == 0) body["structured_outputs"] = {{"regex", "[a-c]{3,90}"}};
    if (stream) {
      body["stream"] = true;
      body["stream_options"] = {{"include_usage", true}};
    }
    return body.dump();
  }

  // The text, and what else depends on the tokens alone.
  static std::string essence(const std::string& got, bool stream) {
    std::map<int64_t, std::string> texts;
    std::string ends;
    const auto add = [&](const Json& answer) {
      for (const Json& choice : answer["choices"]) {
        const int64_t index = choice["index"];
        texts[index] += choice["text"].get<std::string>();
        if (!choice["finish_reason"].is_null()) texts[index] += cat("|", choice["finish_reason"].get<std::string>());
      }
      if (answer.contains("usage") && !answer["usage"].is_null())
        ends = cat(answer["usage"]["completion_tokens"].get<int64_t>());
    };
    const std::string body = got.substr(got.find("\r\n\r\n") + 4);
    if (!stream) {
      const auto parsed = parse_json(body);
      if (!parsed.ok() || !parsed->contains("choices")) return "";
      add(*parsed);
    } else {
      std::string events;
      for (size_t at = 0; at < body.size();) {  // chunks of HTTP
        const size_t size = std::strtoull(body.c_str() + at, nullptr, 16);
        const size_t begin = body.find("\r\n", at) + 2;
        events += body.substr(begin, size);
        at = begin + size + 2;
      }
      if (!events.ends_with("data: [DONE]\n\n")) return "";
      for (size_t at = events.find("data: {"); at != events.npos; at = events.find("data: {", at + 1)) {
        const auto parsed = parse_json(std::string_view(events).substr(at + 6, events.find('\n', at) - at - 6));
        if (!parsed.ok() || !parsed->contains("choices")) return "";
        add(*parsed);
      }
    }
    for (const auto& [index, text] : texts) ends += cat("\n", text);
    return ends;
  }

  void ask_and_compare() {
    const int64_t number = up_to(200);
    const bool stream = up_to(1);
    const std::string got = ask(post("/v1/completions", generation(number, stream)), {200});
    if (got.empty()) return;
    const std::string is = essence(got, stream);
    if (is.empty()) {
      if (!stopping_)
        fail("request ", number, " lost its end: ", got.substr(0, 200), " ... ",
             got.substr(got.size() - std::min<size_t>(got.size(), 200)));
      return;
    }
    ++answers;
    std::lock_guard lock(known_mutex);
    const auto [at, is_new] = known.try_emplace(number, is);
    if (!is_new && at->second != is && !stopping_) fail("request ", number, " got\n", is, "\nand before\n", at->second);
  }

  void leave_in_the_middle() {
    RawClient client(port_);
    client.send(post(up_to(1) ? "/v1/completions" : "/v1/responses",
                     up_to(1) ? R"({"prompt":"abc","input":"abc","max_tokens":2500,"ignore_eos":true,"stream":true})"
                              : R"({"prompt":"abc","input":"abc","max_tokens":2500,"ignore_eos":true})"));
    std::this_thread::sleep_for(milliseconds(up_to(30)));
    if (up_to(1)) client.read_some(1000);
    ++cancels;
    if (up_to(1)) return client.reset();
    client.end_input();
  }

  void read_slowly() {
    RawClient client(port_);
    client.send(
        post("/v1/chat/completions",
             R"({"messages":[{"role":"user","content":"abc"}],"max_tokens":300,"stream":true,"ignore_eos":true})"));
    std::string got;
    for (std::string piece = client.read_some(400); !piece.empty(); piece = client.read_some(400)) {
      got += piece;
      std::this_thread::sleep_for(milliseconds(1));
    }
    if (!stopping_ && !got.ends_with("0\r\n\r\n")) fail("a slow reader lost its end, ", got.size(), " bytes");
  }

  void send_a_large_body() {
    const int64_t size = int64_t{1} << up_to(23);
    const std::string text(static_cast<size_t>(size), 'x');
    if (up_to(1)) {
      ask(post("/tokenize", cat(R"({"prompt":")", text, "\"}")), {200, 400, 413, 429, 503});
    } else {
      RawClient client(port_);
      client.send(
          "POST /v1/completions HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer secret\r\n"
          "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
      for (std::string_view rest = text; !rest.empty(); rest.remove_prefix(std::min<size_t>(rest.size(), 50'000))) {
        const std::string_view piece = rest.substr(0, 50'000);
        char head[20];
        std::snprintf(head, sizeof head, "%zx\r\n", piece.size());
        client.send(cat(head, piece, "\r\n"));
      }
      client.send("0\r\n\r\n");
      const auto got = client.read_to_end(std::chrono::duration_cast<milliseconds>(kPatience));
      if (!got) fail("a chunked body's connection stays open");
    }
    ++refusals;
  }

  void send_rubbish() {
    std::string bytes(static_cast<size_t>(up_to(3000)), '\0');
    for (char& c : bytes) c = static_cast<char>(up_to(255));
    if (up_to(1)) {
      ask(post("/v1/chat/completions", bytes), {400});
    } else {
      RawClient client(port_);
      client.send(bytes);
      client.end_input();
      if (!client.read_to_end(std::chrono::duration_cast<milliseconds>(kPatience)))
        fail("rubbish keeps a connection open");
    }
    ++refusals;
  }

  void cut_short() {
    RawClient client(port_);
    const std::string request = post("/v1/completions", generation(up_to(200), true));
    client.send(std::string_view(request).substr(0, static_cast<size_t>(up_to(std::ssize(request)))));
    if (up_to(1)) client.reset();
  }

  void ask_probes() {
    for (const char* path : {"/metrics", "/health", "/v1/models", "/version", "/nowhere"}) {
      ask(cat("GET ", path, " HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer secret\r\n\r\n"),
          {200, 404});
    }
    ask("GET /v1/models HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer wrong\r\n\r\n", {401});
  }

  void too_late() {
    ask(post("/v1/completions", R"({"prompt":"abc","max_tokens":2500,"ignore_eos":true})",
             "x-request-timeout-ms: 20\r\n"),
        {200, 408});
  }

  std::mt19937_64 random_;
  const int port_;
  const std::atomic<bool>& stopping_;
};

// One life of the server.
void play_round(uint64_t seed, steady_clock::duration length) {
  Server server;
  std::atomic<bool> stopping = false;
  std::vector<std::thread> clients;
  for (int i = 0; i < kClients; ++i) {
    clients.emplace_back([&, i] { Client(seed * 1000 + static_cast<uint64_t>(i), server.port(), stopping).run(); });
  }
  std::this_thread::sleep_for(length);
  if (seed % 2 == 0) {
    // Everybody goes, and everything comes back.
    stopping = true;
    for (std::thread& client : clients) client.join();
    const auto end = steady_clock::now() + kPatience;
    const auto busy = [&] {
      const EngineStats stats = server.stats();
      return stats.running + stats.waiting + stats.blocks_used > 0;
    };
    while (busy() && steady_clock::now() < end) std::this_thread::sleep_for(milliseconds(5));
    if (busy()) fail("requests or blocks are left where nobody asks");
    server.stop(kGrace);
    return;
  }
  // Under load.
  stopping = true;
  const auto begin = steady_clock::now();
  server.stop(kGrace);
  const std::chrono::duration<double> took = steady_clock::now() - begin;
  if (took > kGrace + std::chrono::seconds(5)) fail("the stop took ", took.count(), " s");
  for (std::thread& client : clients) client.join();
}

int soak() {
  set_log_level(LogLevel::kError);
  const char* const given = std::getenv("HEARTH_SOAK_SECONDS");
  const auto length = std::chrono::seconds(given == nullptr ? 10 : std::atoll(given));
  const auto end = steady_clock::now() + length;
  int64_t memory = 0, descriptors = 0;
  uint64_t round = 0;
  for (; round < 4 || steady_clock::now() < end; ++round) {
    play_round(round + 1, std::min<steady_clock::duration>(kRound, length / 4));
    {
      std::lock_guard lock(known_mutex);
      malloc_trim(0);
    }
    // The first two rounds fill what libraries keep, and `known`.
    const int64_t memory_now = allocated_bytes() - [] {
      std::lock_guard lock(known_mutex);
      int64_t bytes = 0;
      for (const auto& [number, text] : known) bytes += 200 + static_cast<int64_t>(text.capacity());
      return bytes;
    }();
    const int64_t descriptors_now = num_descriptors();
    std::printf("round %d: %lld answers, %lld cancels, %lld refusals, %lld KiB, %lld descriptors\n",
                static_cast<int>(round), static_cast<long long>(answers), static_cast<long long>(cancels),
                static_cast<long long>(refusals), static_cast<long long>(memory_now >> 10),
                static_cast<long long>(descriptors_now));
    std::fflush(stdout);
    if (round < 2) {
      memory = std::max(memory, memory_now);
      descriptors = std::max(descriptors, descriptors_now);
    }
    if (memory_now > memory + kMostLeft) fail("memory: ", memory_now, " bytes after ", memory);
    if (descriptors_now > descriptors) fail("descriptors: ", descriptors_now, " after ", descriptors);
  }
  if (answers == 0) fail("no answer at all");
  std::printf("%s: %lld failures\n", failures == 0 ? "clean" : "FAILED", static_cast<long long>(failures));
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace hearth

int main() { return hearth::soak(); }
