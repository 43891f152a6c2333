// Arrivals, and what becomes of them.
#include "sim/load_simulation.h"

#include <algorithm>
#include <memory>
#include <random>

#include "engine/engine_core.h"
#include "sim/simulated_runner.h"

namespace hearth {

LoadResult::Quantiles quantiles(std::vector<double> values) {
  if (values.empty()) return {};
  std::ranges::sort(values);
  auto at = [&](double q) { return values[static_cast<size_t>(q * static_cast<double>(values.size() - 1))]; };
  return {at(0.5), at(0.99)};
}

namespace {

RunnerLimits limits_of(const SimulatedLoad& options) {
  RunnerLimits limits;
  limits.max_model_len = 2 * (options.prompt_tokens + options.output_tokens);
  limits.num_blocks = (limits.max_model_len / limits.block_size + 2) * options.engine.max_num_seqs;
  if (options.cache_tokens > 0) {
    const int64_t least = limits.max_model_len / limits.block_size + 2;
    limits.num_blocks = std::clamp(options.cache_tokens / limits.block_size, least, limits.num_blocks);
  }
  limits.vocab_size = limits.max_edits = 1;
  limits.max_tokens = options.engine.max_num_batched_tokens;
  limits.max_sequences = limits.max_logits = options.engine.max_num_seqs;
  return limits;
}

}  // namespace

LoadResult simulate_load(const SimulatedLoad& options) {
  ManualClock clock;
  SimulatedRunner::Options runner;
  runner.limits = limits_of(options);
  runner.step_time = options.step_time;
  runner.time_only = true;
  EngineOptions engine = options.engine;
  engine.prefix_cache = false;
  engine.max_logprobs = 0;
  EngineCore core(std::make_unique<SimulatedRunner>(runner, clock), engine, clock);

  std::mt19937_64 random(options.seed);
  std::exponential_distribution<double> gap(options.rate);
  const double begin = seconds(clock.now());
  const double counted_from = begin + options.warm_up, counted_to = counted_from + options.seconds;
  LoadResult result;
  std::vector<double> ttft, tpot, latency;
  int64_t under_way = 0, number = 0;
  double next = begin + gap(random);

  auto length = [&](int64_t mean) {
    const double factor = std::uniform_real_distribution(1 - options.spread, 1 + options.spread)(random);
    return std::max<int64_t>(static_cast<int64_t>(factor * static_cast<double>(mean)), 1);
  };
  auto submit = [&](double arrival) {
    const bool counts = arrival >= counted_from && arrival < counted_to;
    Request request;
    request.id = std::to_string(++number);
    request.prompt.assign(length(options.prompt_tokens), 0);
    const int64_t output = request.sampling.max_tokens = length(options.output_tokens);
    request.sampling.ignore_eos = true;
    request.arrival = std::chrono::nanoseconds(static_cast<int64_t>(arrival * 1e9));
    request.on_event = [&, arrival, counts, output, first = 0.0, tokens = int64_t{0}](RequestEvent&& event) mutable {
      const double now = seconds(clock.now());
      if (tokens == 0) first = now;
      tokens += std::ssize(event.tokens);
      if (!event.finish || !counts) return;
      HEARTH_CHECK(tokens == output);
      --under_way;
      ttft.push_back(first - arrival);
      if (tokens > 1) tpot.push_back((now - first) / static_cast<double>(tokens - 1));
      latency.push_back(now - arrival);
    };
    const Status status = core.scheduler().accept(request, clock.now());
    if (counts) ++result.arrived;
    if (!status.ok()) {
      if (counts) ++result.refused;
    } else {
      if (counts) ++under_way;
      core.scheduler().add(std::move(request));
    }
  };

  // Arrivals go on until those that count have ended.
  while (next < counted_to || under_way > 0) {
    if (!core.scheduler().has_work() && seconds(clock.now()) < next) {
      clock.advance(std::chrono::nanoseconds(static_cast<int64_t>(next * 1e9) + 1) - clock.now());
    }
    clock.advance(core.patience());
    for (; next <= seconds(clock.now()); next += gap(random)) submit(next);
    HEARTH_CHECK(core.step().ok());
  }
  const EngineStats stats = core.scheduler().stats();
  result.ttft = quantiles(std::move(ttft));
  result.tpot = quantiles(std::move(tpot));
  result.latency = quantiles(std::move(latency));
  result.step_time_error = stats.step_time_error_sum / 100 / static_cast<double>(std::max<int64_t>(stats.steps, 1));
  return result;
}

}  // namespace hearth
