// Prints docs/several_gpus.md's tables: four replicas under a load whose prompts share heads, by who chooses the
// replica.
#include <cstdio>

#include "sim/simulated_replicas.h"

namespace {

using namespace hearth;

ReplicaLoad base() {
  ReplicaLoad out;
  out.load.engine.max_num_seqs = 256;
  out.load.engine.max_num_batched_tokens = 1024;
  out.load.step_time.noise = 0.01;
  out.load.step_time.points = {{0, 3600},    {1, 4000},    {8, 10700},   {64, 12000},
                               {256, 14300}, {512, 17500}, {768, 22000}, {1024, 27500}};
  out.load.step_time.context_token_us = 0.017;
  out.load.prompt_tokens = 200;
  out.load.output_tokens = 100;
  out.load.warm_up = 20;
  out.load.seconds = 60;
  return out;
}

void print(const char* name, const ReplicaLoad& load) {
  const ReplicaResult r = simulate_replicas(load);
  std::printf("| %s | %.0f%% | %.2f, %.2f | %.2f, %.2f | %.2f | %lld |\n", name, r.hit_rate * 100, r.load.ttft.p50,
              r.load.ttft.p99, r.load.latency.p50, r.load.latency.p99, r.imbalance, static_cast<long long>(r.failed));
  std::fflush(stdout);
}

void compare(const char* what, ReplicaLoad load) {
  std::printf(
      "\n%s\n\n| | found in the cache | first token p50, p99 | total p50, p99 | busiest | failed "
      "|\n|---|---|---|---|---|---|\n",
      what);
  load.order = dispatch_by_forecast;
  print("forecast", load);
  load.order = round_robin();
  print("round robin", load);
  load.order = consistent_hash();
  print("hash of the head", load);
}

}  // namespace

int main() {
  ReplicaLoad load = base();
  load.load.rate = 60;
  load.heads = 200;
  load.skew = 0;
  compare("200 heads of 2,000 tokens, all alike, 60 requests/s; a cache holds 130", load);
  load.skew = 1;
  compare("likewise, the k-th head asked for in proportion to 1/k", load);
  load.heads = 8;
  load.skew = 2;
  compare("8 heads, one of them 65% of the requests", load);
  load.fails_after = 20;
  load.joins_after = 20;
  compare("likewise, a replica dies after 20 s and comes back after 40", load);
  load.heads = 1'000'000;
  load.skew = 0;
  load.load.rate = 30;
  load.fails_after = load.joins_after = 0;
  compare("no head twice, 30 requests/s", load);
}
