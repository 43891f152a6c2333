// The order of simulated time: the replica that is behind goes first.
#include "sim/simulated_replicas.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "engine/step_time_probe.h"

namespace hearth {

SteppedEngine::SteppedEngine(const SimulatedRunner::Options& runner, const EngineOptions& options, TimePoint now)
    : runner_(new SimulatedRunner(runner, clock_)), core_(std::unique_ptr<Runner>(runner_), options, clock_) {
  wait_until(now);
}

void SteppedEngine::step() {
  if (!health_.ok()) return;
  clock_.advance(core_.patience());
  health_ = core_.step();
}

void SteppedEngine::wait_until(TimePoint time) {
  if (time > clock_.now()) clock_.advance(time - clock_.now());
}

Status SteppedEngine::submit(Request request) {
  if (!health_.ok()) return Status(Code::kUnavailable, "the device failed");
  HEARTH_TRY(core_.scheduler().accept(request, clock_.now()));
  core_.scheduler().add(std::move(request));
  return {};
}

void SteppedEngine::cancel(const std::string& id) {
  if (health_.ok()) core_.scheduler().cancel(id);
}

std::optional<Forecast> SteppedEngine::forecast(const Request& request) const {
  if (!health_.ok()) return std::nullopt;
  return core_.scheduler().forecast(request, clock_.now());
}

SimulatedReplicas::SimulatedReplicas(std::vector<SimulatedRunner::Options> runners, EngineOptions options,
                                     DispatchOrder order)
    : options_(std::move(options)) {
  ManualClock probing;
  SimulatedRunner probe(runners[0], probing);
  options_.step_times = measure_step_times(probe, probing, options_.max_num_batched_tokens);
  options_.queue = std::make_shared<RequestQueue>();
  std::vector<std::unique_ptr<Engine>> engines;
  for (const auto& runner : runners) {
    auto engine = std::make_unique<SteppedEngine>(runner, options_, clock_.now());
    stepped_.push_back(engine.get());
    engines.push_back(std::move(engine));
  }
  replicas_ = std::make_unique<Replicas>(std::move(engines), clock_, std::move(order));
}

SteppedEngine* SimulatedReplicas::next() {
  SteppedEngine* out = nullptr;
  for (SteppedEngine* engine : stepped_) {
    if (engine->has_work() && (out == nullptr || engine->now() < out->now())) out = engine;
  }
  return out;
}

bool SimulatedReplicas::has_work() const { return std::ranges::any_of(stepped_, &SteppedEngine::has_work); }

void SimulatedReplicas::run_until(TimePoint time) {
  for (SteppedEngine* engine = next(); engine != nullptr && engine->now() < time; engine = next()) engine->step();
  for (SteppedEngine* engine : stepped_) engine->wait_until(time);
  if (time > clock_.now()) clock_.advance(time - clock_.now());
}

void SimulatedReplicas::finish() {
  for (SteppedEngine* engine = next(); engine != nullptr; engine = next()) engine->step();
}

void SimulatedReplicas::replace(size_t i, const SimulatedRunner::Options& runner) {
  auto engine = std::make_unique<SteppedEngine>(runner, options_, clock_.now());
  stepped_[i] = engine.get();
  replicas_->replace(i, std::move(engine));
}

namespace {

TimePoint at_seconds(double time) { return std::chrono::nanoseconds(static_cast<int64_t>(time * 1e9)); }

SimulatedRunner::Options runner_of(const ReplicaLoad& load) {
  SimulatedRunner::Options out;
  out.step_time = load.load.step_time;
  out.time_only = true;
  RunnerLimits& limits = out.limits;
  limits.max_model_len = 2 * (load.head_tokens + load.load.prompt_tokens + load.load.output_tokens);
  limits.num_blocks = load.cache_tokens / limits.block_size;
  limits.vocab_size = limits.max_edits = 1 << 20;
  limits.max_tokens = load.load.engine.max_num_batched_tokens;
  limits.max_sequences = limits.max_logits = load.load.engine.max_num_seqs;
  return out;
}

}  // namespace

ReplicaResult simulate_replicas(const ReplicaLoad& options) {
  const SimulatedLoad& load = options.load;
  const SimulatedRunner::Options runner = runner_of(options);
  std::vector<SimulatedRunner::Options> runners(static_cast<size_t>(options.replicas), runner);
  EngineOptions engine = load.engine;
  engine.max_logprobs = 0;
  SimulatedReplicas replicas(runners, engine, options.order);

  std::mt19937_64 random(load.seed);
  std::exponential_distribution<double> gap(load.rate);
  std::vector<double> weights;
  for (int64_t head = 0; head < options.heads; ++head) {
    weights.push_back(std::pow(static_cast<double>(head + 1), -options.skew));
  }
  std::discrete_distribution<int64_t> any_head(weights.begin(), weights.end());
  const double counted_from = load.warm_up, counted_to = counted_from + load.seconds;
  const double fails_at = options.fails_after > 0 ? counted_from + options.fails_after : INFINITY;
  const double joins_at = options.joins_after > 0 ? fails_at + options.joins_after : INFINITY;
  ReplicaResult result;
  std::vector<double> ttft, tpot, latency;
  EngineStats before;
  std::vector<EngineStats> each_before;
  bool failed = false, joined = false, counting = false;
  int64_t number = 0;
  for (double next = gap(random); next < counted_to; next += gap(random)) {
    if (!failed && next >= fails_at) {
      replicas.run_until(at_seconds(fails_at));
      replicas.fail(0);
      failed = true;
    }
    if (!joined && next >= joins_at) {
      replicas.run_until(at_seconds(joins_at));
      replicas.replace(0, runner);
      joined = true;
    }
    replicas.run_until(at_seconds(next));
    const bool counts = next >= counted_from;
    if (counts && !std::exchange(counting, true)) {
      before = replicas.engine().stats();
      each_before = replicas.engine().replica_stats();
    }
    Request request;
    request.id = std::to_string(++number);
    const auto head = static_cast<int32_t>(any_head(random));
    request.prompt.assign(static_cast<size_t>(options.head_tokens), head);
    for (int64_t i = 0; i < load.prompt_tokens; ++i) {
      request.prompt.push_back(static_cast<int32_t>(random() % static_cast<uint64_t>(runner.limits.vocab_size)));
    }
    request.sampling.max_tokens = load.output_tokens;
    request.sampling.ignore_eos = true;
    request.arrival = at_seconds(next);
    // An event is at the time of the replica that it comes from.
    request.on_event = [&, counts, arrival = next, first = 0.0, tokens = int64_t{0}](RequestEvent&& event) mutable {
      const double now = seconds(replicas.replica(static_cast<size_t>(event.replica)).now());
      if (tokens == 0 && !event.tokens.empty()) first = now;
      tokens += std::ssize(event.tokens);
      if (!event.finish || !counts) return;
      if (*event.finish != FinishReason::kLength) {
        ++result.failed;
        return;
      }
      HEARTH_CHECK(tokens == load.output_tokens);
      ttft.push_back(first - arrival);
      if (tokens > 1) tpot.push_back((now - first) / static_cast<double>(tokens - 1));
      latency.push_back(now - arrival);
    };
    const Status status = replicas.engine().submit(std::move(request));
    if (counts) ++result.load.arrived;
    if (counts && !status.ok()) ++result.load.refused;
  }
  const EngineStats after = replicas.engine().stats();
  const auto each_after = replicas.engine().replica_stats();
  replicas.finish();
  result.load.ttft = quantiles(std::move(ttft));
  result.load.tpot = quantiles(std::move(tpot));
  result.load.latency = quantiles(std::move(latency));
  result.hit_rate = static_cast<double>(after.prefix_hits - before.prefix_hits) /
                    static_cast<double>(std::max<int64_t>(after.prefix_queries - before.prefix_queries, 1));
  int64_t most = 0;
  for (size_t i = 0; i < each_after.size(); ++i) {
    most = std::max(most, each_after[i].step_tokens - each_before[i].step_tokens);
  }
  result.imbalance = static_cast<double>(most * options.replicas) /
                     static_cast<double>(std::max<int64_t>(after.step_tokens - before.step_tokens, 1));
  return result;
}

namespace {

std::vector<size_t> serving_from(size_t first, std::span<const std::optional<Forecast>> forecasts) {
  std::vector<size_t> out;
  for (size_t i = 0; i < forecasts.size(); ++i) {
    const size_t replica = (first + i) % forecasts.size();
    if (forecasts[replica]) out.push_back(replica);
  }
  return out;
}

}  // namespace

DispatchOrder round_robin() {
  return [turn = size_t{0}](const Request&, std::span<const std::optional<Forecast>> forecasts,
                            std::span<const int64_t>) mutable {
    return serving_from(turn++ % forecasts.size(), forecasts);
  };
}

DispatchOrder consistent_hash() {
  return [](const Request& request, std::span<const std::optional<Forecast>> forecasts, std::span<const int64_t>) {
    uint64_t hash = static_cast<uint64_t>(request.prompt[0]) * 0x9E3779B97F4A7C15ull;
    hash ^= hash >> 32;
    return serving_from(hash % forecasts.size(), forecasts);
  };
}

}  // namespace hearth
