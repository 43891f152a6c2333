// `hearth bench frontend`: what HTTP, the API and the engine's thread take around a model. The server is the real one,
// on a runner that draws letters at a steady pace; the client is a process of its own, so that its time is not counted.
#include <arpa/inet.h>
#include <malloc.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/commit.h"
#include "cli/load_text.h"
#include "cli/write_json.h"
#include "engine/engine.h"
#include "server/http_server.h"
#include "server/routes.h"
#include "sim/paced_runner.h"

namespace hearth {
namespace {

constexpr size_t kLetters = 26;
constexpr int64_t kBuckets = 20'000;  // of delays, 10 us each
constexpr int64_t kBucketNs = 10'000;

// What client and server share. Times are the steady clock's, in ns.
struct Shared {
  std::array<std::atomic<int64_t>, kLetters> ended;  // when the last step that drew a letter ended
  std::atomic<int64_t> chunks, finished, failed;
  std::atomic<bool> counting, stopping;
  std::array<std::atomic<int64_t>, kBuckets> delays;  // of chunks, from the end of their step to the client
};

int64_t now_ns() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

double cpu_seconds(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}
clockid_t clock_of(std::thread& thread) {
  clockid_t out{};
  pthread_getcpuclockid(thread.native_handle(), &out);
  return out;
}

// Streams that begin again when they end, on connections that are kept.
class Streams {
 public:
  Streams(Shared& shared, int port, int64_t streams, int64_t tokens) : shared_(shared) {
    const std::string body =
        Json{{"prompt", "a"}, {"max_tokens", tokens}, {"stream", true}, {"ignore_eos", true}}.dump();
    request_ = cat("POST /v1/completions HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: ",
                   body.size(), "\r\n\r\n", body);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int64_t i = 0; i < streams; ++i) {
      const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      if (fd < 0 || connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
        ++shared_.failed;
        continue;
      }
      epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
      epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
      ask(fd);
    }
  }

  void run() {
    std::array<epoll_event, 256> events{};
    std::vector<char> buffer(64 << 10);
    while (!shared_.stopping) {
      const int n = epoll_wait(epoll_, events.data(), events.size(), 100);
      for (int i = 0; i < n; ++i) {
        const int fd = events[static_cast<size_t>(i)].data.fd;
        const ssize_t size = recv(fd, buffer.data(), buffer.size(), 0);
        if (size <= 0) {
          ++shared_.failed;
          close(fd);
          continue;
        }
        take(fd, {buffer.data(), static_cast<size_t>(size)});
      }
    }
  }

 private:
  void ask(int fd) {
    if (::send(fd, request_.data(), request_.size(), MSG_NOSIGNAL) != std::ssize(request_)) ++shared_.failed;
  }
  // A chunk comes whole: it is written by one call, and far smaller than a segment.
  void take(int fd, std::string_view bytes) {
    const int64_t now = now_ns();
    constexpr std::string_view kText = R"("text":")";
    for (size_t at = bytes.find(kText); at != bytes.npos; at = bytes.find(kText, at)) {
      at += kText.size();
      const size_t letter = static_cast<size_t>(bytes[at] - 'a');
      if (!shared_.counting || letter >= kLetters) continue;
      ++shared_.chunks;
      const int64_t delay = (now - shared_.ended[letter]) / kBucketNs;
      ++shared_.delays[static_cast<size_t>(std::clamp<int64_t>(delay, 0, kBuckets - 1))];
    }
    if (bytes.find("data: [DONE]") == bytes.npos) return;
    ++shared_.finished;
    ask(fd);
  }

  Shared& shared_;
  std::string request_;
  const int epoll_ = epoll_create1(EPOLL_CLOEXEC);
};

double delay_ms(const Shared& shared, double share) {
  int64_t total = 0, seen = 0;
  for (const auto& n : shared.delays) total += n;
  for (size_t i = 0; i < shared.delays.size(); ++i) {
    seen += shared.delays[i];
    if (static_cast<double>(seen) >= share * static_cast<double>(total)) {
      return static_cast<double>((static_cast<int64_t>(i) + 1) * kBucketNs) * 1e-6;
    }
  }
  return 0;
}

Status measure(const ServerOptions& server, const BenchFrontendOptions& bench) {
  HEARTH_ASSIGN(OpenedModel opened, open_model(server.model, LoadFormat::kAuto));
  HEARTH_ASSIGN(const LoadedText text, load_text(opened, LoadFormat::kAuto, {}));
  std::vector<int32_t> letters;
  for (size_t i = 0; i < kLetters; ++i) {
    HEARTH_ASSIGN(const std::vector<int32_t> ids,
                  text.tokenizer->encode(std::string(1, static_cast<char>('a' + i)), {}));
    if (ids.size() != 1) return unimplemented("a tokenizer that has no token for each letter");
    letters.push_back(ids[0]);
  }
  auto* const memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return Status(Code::kResourceExhausted, "no memory to share with the client");
  Shared& shared = *new (memory) Shared();
  int port_pipe[2];
  if (pipe(port_pipe) != 0) return Status(Code::kResourceExhausted, "no pipe to the client");
  const pid_t client = fork();  // before there are threads
  if (client < 0) return Status(Code::kResourceExhausted, "no process for the client");
  if (client == 0) {
    int port = 0;
    if (read(port_pipe[0], &port, sizeof port) == sizeof port) {
      Streams(shared, port, bench.streams, bench.tokens).run();
    }
    std::_Exit(0);
  }

  SteadyClock clock;
  RunnerLimits limits{.block_size = kBlockSize, .max_model_len = bench.tokens + 64};
  limits.num_blocks = bench.streams * (limits.max_model_len / kBlockSize + 2);
  limits.vocab_size = limits.max_edits = text.tokenizer->vocab_size();
  limits.max_tokens = limits.max_sequences = limits.max_logits = std::min<int64_t>(bench.streams, 4096);
  limits.max_logprobs = 1;
  EngineOptions options;
  options.max_num_seqs = limits.max_sequences;
  options.max_num_batched_tokens = limits.max_tokens;
  options.max_model_len = limits.max_model_len;
  options.max_logprobs = 1;
  const auto pace = std::chrono::duration_cast<Duration>(std::chrono::duration<double, std::milli>(bench.step_ms));
  const std::unique_ptr<Engine> engine =
      make_engine(std::make_unique<PacedRunner>(limits, pace, letters, shared.ended), options, clock);
  Metrics metrics("bench");
  const Serving serving(
      {.model_names = {"bench"}, .limits = {text.tokenizer->vocab_size(), limits.max_model_len, 1, 1}}, *text.tokenizer,
      nullptr, *engine, clock, &metrics);
  Routes routes(ApiKeys({}), Cors(std::vector<std::string>{}), 2);
  HttpLimits http;
  http.max_connections = http.max_client_connections = bench.streams + 16;
  HttpServer server_side(
      http,
      [&](HttpRequest&& request, std::shared_ptr<Exchange> exchange) {
        routes.handle(std::move(request), std::move(exchange));
      },
      [&](HttpRequest& request) { return routes.admit(request); });
  HEARTH_TRY(server_side.listen("127.0.0.1", 0));
  routes.set_model(serving, metrics);
  std::thread io([&] { server_side.run(); });
  const int port = server_side.port();
  Status status;
  if (write(port_pipe[1], &port, sizeof port) != sizeof port) status = internal_error("the client is gone");

  std::this_thread::sleep_for(std::chrono::duration<double>(bench.warm_up));
  const clockid_t io_clock = clock_of(io);
  const auto memory_used = [] { return static_cast<int64_t>(mallinfo2().uordblks); };
  const int64_t bytes_before = memory_used();
  const double io_before = cpu_seconds(io_clock), all_before = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID);
  const int64_t steps_before = engine->stats().steps;
  const int64_t begin = now_ns();
  shared.counting = true;
  std::this_thread::sleep_for(std::chrono::duration<double>(bench.seconds));
  shared.counting = false;
  const double took = static_cast<double>(now_ns() - begin) * 1e-9;
  const double io_time = cpu_seconds(io_clock) - io_before;
  const double other_time = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID) - all_before - io_time;
  const int64_t steps = engine->stats().steps - steps_before, bytes = memory_used() - bytes_before;
  shared.stopping = true;
  waitpid(client, nullptr, 0);
  routes.set_draining();
  server_side.stop(std::chrono::milliseconds(100));
  io.join();
  if (!status.ok()) return status;

  const auto chunks = static_cast<double>(shared.chunks);
  if (chunks == 0 || steps == 0) return internal_error("no chunk came");
  const double us = 1e6 * io_time / chunks;
  const Json out{{"streams", bench.streams},
                 {"step_ms", bench.step_ms},
                 {"chunks_per_second", chunks / took},
                 {"io_us_per_chunk", us},
                 {"chunks_per_second_of_a_core", 1e6 / us},
                 {"engine_and_workers_us_per_step", 1e6 * other_time / static_cast<double>(steps)},
                 {"added_ms_p50", delay_ms(shared, 0.5)},
                 {"added_ms_p99", delay_ms(shared, 0.99)},
                 {"answers", shared.finished.load()},
                 {"failed", shared.failed.load()},
                 {"heap_growth_bytes", bytes},
                 {"commit", commit()}};
  std::printf("%lld streams, a step every %.1f ms: %.0f chunks/s\n", static_cast<long long>(bench.streams),
              bench.step_ms, chunks / took);
  std::printf("I/O thread          %8.2f us a chunk (%.0f chunks/s on one core)\n", us, 1e6 / us);
  std::printf("engine and workers  %8.0f us a step\n", 1e6 * other_time / static_cast<double>(steps));
  std::printf("added               %8.2f ms at the median, %.2f ms at the 99th percentile\n", delay_ms(shared, 0.5),
              delay_ms(shared, 0.99));
  std::printf("lost                %8lld; heap %+.1f MB\n", static_cast<long long>(shared.failed),
              static_cast<double>(bytes) * 1e-6);
  return bench.json.empty() ? Status() : write_json(bench.json, out);
}

}  // namespace

int bench_frontend_command(const ServerOptions& server, const BenchFrontendOptions& bench) {
  set_log_level(LogLevel::kWarning);
  const Status status = measure(server, bench);
  if (!status.ok()) log_error(status.message());
  return status.ok() ? 0 : 1;
}

}  // namespace hearth
