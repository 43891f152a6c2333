// Engine: the thread that schedules and runs steps. Everything here may be called from any thread.
#pragma once

#include <atomic>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "engine/request.h"
#include "engine/step_time_model.h"
#include "kv/prefix_index.h"

namespace hearth {

class MaskMaker;
class Runner;
class StepTrace;

// Requests that wait for their first step. Replicas share one, so that its limits are the server's.
struct RequestQueue {
  std::atomic<int64_t> requests = 0, bytes = 0;
};

struct EngineOptions {
  int64_t max_num_seqs = 64;
  int64_t max_num_batched_tokens = 512;  // the token budget of a step
  // Limits of the requests that wait for their first step. More are refused. A single one is always taken.
  int64_t max_num_queued_requests = std::numeric_limits<int64_t>::max();
  int64_t max_queue_bytes = int64_t{512} << 20;
  int64_t max_model_len = 0;
  int64_t max_logprobs = 20;
  int64_t num_blocks = 0;  // KV blocks the runner holds; 0: ask it
  bool prefix_cache = true;
  PrefixMode prefix_mode = PrefixMode::kExact;
  std::vector<int32_t> end_tokens;
  int64_t vocab_size = 0;  // 0: ask the runner
  LatencyTargets targets;
  bool request_targets = false;  // requests may bring their own
  // If true, step times are measured before the engine starts.
  bool keeps_targets() const { return targets.any() || request_targets; }
  std::optional<StepTimeModel> step_times;  // used instead of measuring; forecast() then works without targets too
  std::shared_ptr<RequestQueue> queue;      // null: one of its own
  std::shared_ptr<StepTrace> trace;
  std::shared_ptr<KvEventSink> kv_events;  // null: no events of the prefix cache
  std::shared_ptr<MaskMaker> mask_maker;   // null: a few threads
};

// A consistent snapshot for /metrics of what only the engine knows.
struct EngineStats {
  int64_t running = 0, waiting = 0;
  bool queue_is_full = false;  // the next request would most likely be refused
  int64_t blocks_total = 0, blocks_used = 0;
  int64_t preemptions = 0, steps = 0;
  int64_t draws_taken_back = 0;  // draws with a grammar whose mask turned out to be wrong
  int64_t step_tokens = 0;       // computed in all steps: recomputed ones count, and prompts' chunks
  int64_t prompt_tokens = 0, generation_tokens = 0;
  int64_t prefix_queries = 0, prefix_hits = 0;  // tokens
  std::map<int64_t, int64_t> tokens_per_step;   // histogram: upper bound (a power of two), count
  int64_t latency_refusals = 0;
  std::map<int64_t, int64_t> step_time_errors;  // predictions' errors in percent: a histogram as above
  double step_time_error_sum = 0;
  // If the device keeps a clock: its time in steps, and its idle time between steps while there was a request to serve.
  double device_busy_seconds = 0, device_idle_seconds = 0;
};

// When a request would be served, estimated now. Seconds from now.
struct Forecast {
  double wait = 0;     // until its first step
  double end = 0;      // its last token
  double compute = 0;  // device time for the part of its prompt that is not cached
};

class Engine {
 public:
  virtual ~Engine() = default;
  // Refuses at once: kResourceExhausted when the queue is full, kInvalidArgument when the request can never fit (prompt
  // + 1 over the context, or more blocks than there are) or its id is in use, kTimedOut when its time is up,
  // kDeadlineExceeded when a latency target cannot be kept, kUnavailable while draining and after the device failed.
  // Otherwise events follow until one has `finish`.
  virtual Status submit(Request request) = 0;
  // Ends the request soon; unknown ids are ignored. Its last event is kCancelled, unless it ended by itself first.
  virtual void cancel(const std::string& id) = 0;
  virtual EngineStats stats() const = 0;
  // Reserves and refuses nothing. None: step times are not known, or the engine takes no requests.
  virtual std::optional<Forecast> forecast(const Request& request) const {
    (void)request;
    return std::nullopt;
  }
  // Not ok once the device failed: every request was answered with kInternal, and the process should end.
  virtual Status health() const = 0;
  // Of each replica (replicas.h); a plain engine is its only one. stats() is their sum; health() is ok while one is ok.
  virtual std::vector<EngineStats> replica_stats() const { return {stats()}; }
  virtual std::vector<Status> replica_health() const { return {health()}; }
  // Takes no new requests. Returns when all have ended. What still runs after `timeout` is cancelled.
  virtual void drain(Duration timeout) = 0;
};

// Takes the runner and starts the engine's thread; destroying the engine ends it.
std::unique_ptr<Engine> make_engine(std::unique_ptr<Runner> runner, const EngineOptions& options, const Clock& clock);

}  // namespace hearth
