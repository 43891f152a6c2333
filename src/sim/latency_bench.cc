// Prints docs/latency_budget.md's tables: a load simulated with and without a latency target, at rising rates.
#include <cstdio>

#include "sim/load_simulation.h"

namespace {

using hearth::LatencyTargets;
using hearth::LoadOptions;
using hearth::LoadResult;

LoadOptions options(double rate, double spread, const LatencyTargets& targets) {
  LoadOptions out;
  out.step_time.noise = 0.03;
  out.engine.max_num_seqs = 256;
  out.engine.max_num_batched_tokens = 1024;
  out.engine.targets = targets;
  out.rate = rate;
  out.spread = spread;
  return out;
}

// Each quantity that has a target, as p50, p99; milliseconds.
void print_row(const LoadResult& result, const LatencyTargets& targets) {
  auto cell = [](double target, const LoadResult::Quantiles& times, int decimals) {
    if (target > 0) std::printf(" %.*f, %.*f |", decimals, times.p50 * 1000, decimals, times.p99 * 1000);
  };
  cell(targets.ttft, result.ttft, 0);
  cell(targets.tpot, result.tpot, 1);
  cell(targets.latency, result.latency, 0);
}

void print_table(double spread, const LatencyTargets& targets) {
  std::printf("\nttft %g, tpot %g, latency %g s; lengths +- %g%%\n\n", targets.ttft, targets.tpot, targets.latency,
              spread * 100);
  for (const double rate : {4., 8., 16., 24., 28., 32., 34., 36., 38., 40., 42., 44., 60., 90.}) {
    std::printf("| %g |", rate);
    print_row(simulate_load(options(rate, spread, {})), targets);
    const LoadResult with = simulate_load(options(rate, spread, targets));
    print_row(with, targets);
    std::printf(" %.1f | %.1f | %.1f |\n", with.refused_share() * 100, rate * (1 - with.refused_share()),
                with.step_time_error * 100);
    std::fflush(stdout);
  }
}

}  // namespace

int main() {
  print_table(0, {.latency = 1.6});
  print_table(0, {.latency = 1.0});
  print_table(0, {.ttft = 0.5});
  print_table(0, {.tpot = 0.022});
  print_table(0, {.ttft = 0.5, .tpot = 0.022});
  print_table(0.9, {.latency = 1.6});
  print_table(0.9, {.ttft = 0.5, .tpot = 0.022});
}
