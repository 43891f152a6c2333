// Prints docs/latency_budget.md's tables: a load simulated with and without a latency target, at rising rates.
#include <cstdio>

#include "sim/load_simulation.h"

namespace {

using hearth::LatencyTargets;
using hearth::LoadResult;
using hearth::SimulatedLoad;

SimulatedLoad options(double rate, double spread, const LatencyTargets& targets) {
  SimulatedLoad out;
  out.step_time.noise = 0.03;
  out.engine.max_num_seqs = 256;
  out.engine.max_num_batched_tokens = 1024;
  out.engine.max_num_queued_requests = 256;
  out.engine.targets = targets;
  out.rate = rate;
  out.spread = spread;
  return out;
}

// Mixtral 8x7B in FP8 on one H100, docs/performance.md at commit 0014282 (past 1,024 tokens 6bc38f6): less the
// attention that the other terms add.
hearth::StepTime h100() {
  hearth::StepTime out;
  out.context_token_us = 0.024;
  out.points = {{0, 4000},    {1, 5180},     {8, 15000},    {64, 16600},   {256, 18900}, {512, 21200},
                {768, 25500}, {1024, 31200}, {1152, 35500}, {1280, 39200}, {1536, 45000}};
  out.noise = 0.01;
  return out;
}

// The mean of a few seeds: p50, p99 of first tokens and of totals; milliseconds.
void print_h100() {
  constexpr int kSeeds = 6;
  std::printf("\nstep times of an H100, no targets: ttft, total\n\n");
  for (const double rate : {8., 16., 20., 22., 24., 25., 26.}) {
    LoadResult::Quantiles ttft{}, latency{};
    for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
      SimulatedLoad load = options(rate, 0, {});
      load.step_time = h100();
      load.seed = seed;
      const LoadResult result = simulate_load(load);
      ttft.p50 += result.ttft.p50 / kSeeds, ttft.p99 += result.ttft.p99 / kSeeds;
      latency.p50 += result.latency.p50 / kSeeds, latency.p99 += result.latency.p99 / kSeeds;
    }
    std::printf("| %g | %.0f, %.0f | %.0f, %.0f |\n", rate, ttft.p50 * 1000, ttft.p99 * 1000, latency.p50 * 1000,
                latency.p99 * 1000);
  }
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
  print_h100();
  print_table(0, {.latency = 1.6});
  print_table(0, {.latency = 1.0});
  print_table(0, {.ttft = 0.5});
  print_table(0, {.tpot = 0.022});
  print_table(0, {.ttft = 0.5, .tpot = 0.022});
  print_table(0.9, {.latency = 1.6});
  print_table(0.9, {.ttft = 0.5, .tpot = 0.022});
}
