// SimulatedReplicas: the real Replicas over engines without threads, each on a simulated device with a clock of its
// own, in the order of simulated time. And a load on them: requests whose prompts begin with one of some heads.
#pragma once

#include <functional>
#include <vector>

#include "engine/engine_core.h"
#include "engine/replicas.h"
#include "sim/load_simulation.h"
#include "sim/simulated_runner.h"

namespace hearth {

// An engine that runs when step() is called. Single-threaded.
class SteppedEngine final : public Engine {
 public:
  SteppedEngine(const SimulatedRunner::Options& runner, const EngineOptions& options, TimePoint now);

  // A turn of the core; after a failure nothing.
  void step();
  bool has_work() const { return health_.ok() && core_.scheduler().has_work(); }
  TimePoint now() const { return clock_.now(); }
  void fail() { runner_->fail(); }
  // Idle until then.
  void wait_until(TimePoint time);
  const Scheduler& scheduler() const { return core_.scheduler(); }

  Status submit(Request request) override;
  void cancel(const std::string& id) override;
  EngineStats stats() const override { return core_.scheduler().stats(); }
  std::optional<Forecast> forecast(const Request& request) const override;
  Status health() const override { return health_; }
  void drain(Duration) override {}  // finish() has seen to it

 private:
  ManualClock clock_;
  SimulatedRunner* runner_;  // the core's
  EngineCore core_;
  Status health_;
};

class SimulatedReplicas {
 public:
  SimulatedReplicas(std::vector<SimulatedRunner::Options> runners, EngineOptions options,
                    DispatchOrder order = dispatch_by_forecast);

  Replicas& engine() { return *replicas_; }
  const SteppedEngine& replica(size_t i) const { return *stepped_[i]; }
  size_t size() const { return stepped_.size(); }
  // Runs all replicas up to a time, which submit() and cancel() then are at.
  void run_until(TimePoint time);
  bool has_work() const;
  // Until nobody has work.
  void finish();
  // A replica's device is gone; its next step, if there is anything to compute, shows it.
  void fail(size_t i) { stepped_[i]->fail(); }
  // A new device for a replica.
  void replace(size_t i, const SimulatedRunner::Options& runner);
  TimePoint now() const { return clock_.now(); }

 private:
  // The replica that is the least far, of those that have work; null: none.
  SteppedEngine* next();

  EngineOptions options_;
  ManualClock clock_;
  std::vector<SteppedEngine*> stepped_;  // owned by replicas_
  std::unique_ptr<Replicas> replicas_;
};

struct ReplicaLoad {
  SimulatedLoad load;  // rate and output_tokens are those of all; prompt_tokens come after the head
  int64_t replicas = 4;
  int64_t heads = 64, head_tokens = 2000;
  double skew = 1;                 // of heads: the k-th is asked for in proportion to k^-skew
  int64_t cache_tokens = 1 << 18;  // of a replica's KV cache
  DispatchOrder order = dispatch_by_forecast;
  // A replica's device fails so many seconds into what counts, and another takes its place so much later.
  double fails_after = 0, joins_after = 0;  // 0: never
};

struct ReplicaResult {
  LoadResult load;
  double hit_rate = 0;   // of prompt tokens
  double imbalance = 0;  // the most tokens that a replica computed, by the mean
  int64_t failed = 0;    // requests that ended with an error
};

ReplicaResult simulate_replicas(const ReplicaLoad& load);

// What others do: in turns; and by a hash of the prompt's head.
DispatchOrder round_robin();
DispatchOrder consistent_hash();

}  // namespace hearth
