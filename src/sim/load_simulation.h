// An open-loop load on the real engine core, on simulated device and time: what requests get at a rate of arrivals.
#pragma once

#include "engine/engine.h"
#include "sim/step_time.h"

namespace hearth {

struct SimulatedLoad {
  StepTime step_time;
  EngineOptions engine;
  double rate = 1;  // requests a second, Poisson
  int64_t prompt_tokens = 1000, output_tokens = 50;
  double spread = 0;                   // of both, evenly to either side, relative
  int64_t cache_tokens = 0;            // of the KV cache; 0: as many as max_num_seqs need
  double warm_up = 20, seconds = 100;  // requests that arrive in the first do not count
  uint64_t seed = 1;
};

struct LoadResult {
  int64_t arrived = 0, refused = 0;
  struct Quantiles {
    double p50, p99;
  };
  Quantiles ttft, tpot, latency;  // of those accepted, seconds
  double step_time_error = 0;     // of predictions, mean, relative; with targets only

  double refused_share() const { return static_cast<double>(refused) / static_cast<double>(arrived); }
};

LoadResult::Quantiles quantiles(std::vector<double> values);

LoadResult simulate_load(const SimulatedLoad& options);

}  // namespace hearth
