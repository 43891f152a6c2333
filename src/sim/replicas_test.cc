// Replicas driven from a seed: devices die and come back, requests are cancelled, heads of prompts are shared; every
// request gets what it gets alone. And what the dispatcher is worth beside others. HEARTH_SIM_SEED=N runs one seed.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "sim/simulated_replicas.h"

namespace hearth {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
constexpr int64_t kSeeds = 200;
#else
constexpr bool kSanitized = false;
constexpr int64_t kSeeds = 1500;
#endif

struct Outcome {
  std::vector<int32_t> tokens;
  std::vector<std::optional<TokenLogprob>> prompt_logprobs;
  int64_t finals = 0;
  FinishReason finish = FinishReason::kError;
  Code error = Code::kOk;
};

EventSink into(Outcome& outcome) {
  return [&outcome](RequestEvent&& event) {
    EXPECT_EQ(outcome.finals, 0) << "an event after the last";
    for (const OutputToken& token : event.tokens) outcome.tokens.push_back(token.token);
    if (!event.prompt_logprobs.empty()) {
      EXPECT_TRUE(outcome.prompt_logprobs.empty());
      outcome.prompt_logprobs = std::move(event.prompt_logprobs);
    }
    if (!event.finish) return;
    ++outcome.finals;
    outcome.finish = *event.finish;
    outcome.error = event.error.code();
  };
}

struct Coverage {
  int64_t moved = 0, failed = 0, cancelled = 0, rejoined = 0, hits = 0, refused = 0, all_down = 0;
};

class World {
 public:
  explicit World(uint64_t seed) : random_(seed) {
    RunnerLimits& limits = runner_.limits;
    limits.block_size = between(1, 8);
    limits.num_blocks = between(20, 60);
    limits.vocab_size = 50;
    limits.max_model_len = between(60, 150);
    limits.max_sequences = between(1, 8);
    limits.max_tokens = between(4, 40);
    limits.max_logits = limits.max_sequences + 4;
    limits.max_logprobs = 2;
    limits.max_edits = 100;
    runner_.model.vocab_size = 50;
    engine_.max_num_seqs = limits.max_sequences;
    engine_.max_num_batched_tokens = limits.max_tokens;
    engine_.max_num_queued_requests = between(2, 40);
    engine_.max_logprobs = 2;
    engine_.end_tokens = {7};
    if (chance(0.3)) engine_.targets.latency = static_cast<double>(between(100, 2000)) / 1000;
    for (int64_t i = between(1, 4); i-- > 0;) heads_.push_back(tokens(between(1, 40)));
  }

  void run(Coverage& coverage) {
    const auto count = static_cast<size_t>(between(1, 4));
    const auto device = [&] {
      SimulatedRunner::Options out = runner_;
      if (chance(0.4)) out.fail_at_step = between(1, 60);
      return out;
    };
    std::vector<SimulatedRunner::Options> devices;
    for (size_t i = 0; i < count; ++i) devices.push_back(device());
    SimulatedReplicas replicas(devices, engine_);
    int64_t failures = 0;
    std::vector<bool> down(count);
    const auto look = [&] {
      for (size_t i = 0; i < count; ++i) {
        const bool is_down = !replicas.replica(i).health().ok();
        failures += is_down && !down[i] ? 1 : 0;
        down[i] = is_down;
        if (!is_down) replicas.replica(i).scheduler().check_integrity();
      }
    };
    const int64_t requests = between(1, 40);
    std::map<int64_t, Outcome> outcomes;
    std::map<int64_t, Request> taken;
    std::set<int64_t> cancelled;
    for (int64_t number = 0; number < requests; ++number) {
      replicas.run_until(replicas.now() + std::chrono::milliseconds(between(0, 60)));
      look();
      for (size_t i = 0; i < count; ++i) {
        if (!down[i] || !chance(0.2)) continue;
        replicas.replace(i, device());
        down[i] = false;
        ++coverage.rejoined;
      }
      if (chance(0.05)) {
        const int64_t other = between(0, number);
        replicas.engine().cancel(std::to_string(other));
        if (outcomes.contains(other)) cancelled.insert(other);
      }
      Request request = random_request(number, replicas.now());
      taken[number] = request;
      request.on_event = into(outcomes[number]);
      const Status status = replicas.engine().submit(request);
      if (!status.ok()) {
        const bool all_down = std::ranges::count(down, false) == 0;
        EXPECT_EQ(all_down, status.code() == Code::kUnavailable) << status.message();
        EXPECT_EQ(outcomes[number].finals, 0);
        outcomes.erase(number);
        ++(all_down ? coverage.all_down : coverage.refused);
      } else {
        EXPECT_FALSE(replicas.engine().submit(request).ok()) << "the id is in use";
      }
    }
    replicas.finish();
    look();
    for (auto& [number, outcome] : outcomes)
      check(taken[number], outcome, cancelled.contains(number), failures, coverage);
    const EngineStats stats = replicas.engine().stats();
    EXPECT_EQ(stats.running + stats.waiting, 0);
    coverage.hits += stats.prefix_hits;
    // Nobody is forgotten: the ids are free again.
    for (auto& [number, outcome] : outcomes) {
      const bool all_down = std::ranges::count(down, false) == 0;
      Request request = taken[number];
      request.on_event = [](RequestEvent&&) {};
      const Status status = replicas.engine().submit(request);
      EXPECT_NE(status.code(), Code::kInvalidArgument);
      EXPECT_EQ(status.code() == Code::kUnavailable, all_down);
      break;
    }
  }

 private:
  int64_t between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(random_() % static_cast<uint64_t>(high - low + 1));
  }
  bool chance(double probability) { return static_cast<double>(between(0, 999'999)) < probability * 1e6; }
  std::vector<int32_t> tokens(int64_t count) {
    std::vector<int32_t> out(static_cast<size_t>(count));
    for (int32_t& token : out) token = static_cast<int32_t>(between(0, 49));
    return out;
  }

  Request random_request(int64_t number, TimePoint now) {
    Request request;
    request.id = std::to_string(number);
    request.arrival = now;
    // The first head is asked for most.
    request.prompt = heads_[chance(0.7) ? 0 : static_cast<size_t>(between(0, std::ssize(heads_) - 1))];
    const auto rest = tokens(between(1, 15));
    request.prompt.insert(request.prompt.end(), rest.begin(), rest.end());
    request.sampling.max_tokens = between(1, 40);
    request.sampling.seed = static_cast<uint64_t>(number);
    request.sampling.ignore_eos = chance(0.5);
    if (chance(0.2)) request.sampling.prompt_logprobs = 1;
    return request;
  }

  Outcome alone(Request request) {
    ManualClock clock;
    EngineOptions options = engine_;
    options.targets = {};
    EngineCore core(std::make_unique<SimulatedRunner>(runner_, clock), options, clock);
    Outcome out;
    request.on_event = into(out);
    core.scheduler().add(std::move(request));
    while (core.scheduler().has_work()) EXPECT_TRUE(core.step().ok());
    return out;
  }

  void check(const Request& request, const Outcome& outcome, bool cancelled, int64_t failures, Coverage& coverage) {
    ASSERT_EQ(outcome.finals, 1) << "request " << request.id;
    const Outcome expected = alone(request);
    ASSERT_LE(outcome.tokens.size(), expected.tokens.size());
    for (size_t i = 0; i < outcome.tokens.size(); ++i)
      ASSERT_EQ(outcome.tokens[i], expected.tokens[i]) << "token " << i;
    if (outcome.finish == FinishReason::kCancelled) {
      EXPECT_TRUE(cancelled);
      ++coverage.cancelled;
    } else if (outcome.finish == FinishReason::kError) {
      EXPECT_EQ(outcome.error, Code::kInternal);
      EXPECT_GT(failures, 0);
      ++coverage.failed;
    } else {
      EXPECT_EQ(outcome.finish, expected.finish);
      EXPECT_EQ(outcome.tokens.size(), expected.tokens.size());
      EXPECT_EQ(outcome.prompt_logprobs.size(), expected.prompt_logprobs.size());
      coverage.moved += failures > 0 ? 1 : 0;
    }
  }

  std::mt19937_64 random_;
  SimulatedRunner::Options runner_;
  EngineOptions engine_;
  std::vector<std::vector<int32_t>> heads_;
};

TEST(ReplicaSimulation, Seeds) {
  Coverage coverage;
  const char* one = std::getenv("HEARTH_SIM_SEED");
  const uint64_t first = one != nullptr ? std::strtoull(one, nullptr, 10) : 0;
  const uint64_t seeds = one != nullptr ? 1 : kSeeds;
  for (uint64_t seed = first; seed < first + seeds && !HasFailure(); ++seed) {
    SCOPED_TRACE(cat("replay: HEARTH_SIM_SEED=", seed, " build/sim_test --gtest_filter=ReplicaSimulation.Seeds"));
    World(seed).run(coverage);
  }
  if (HasFailure() || one != nullptr) return;
  EXPECT_GT(coverage.moved, 0);
  EXPECT_GT(coverage.failed, 0);
  EXPECT_GT(coverage.cancelled, 0);
  EXPECT_GT(coverage.rejoined, 0);
  EXPECT_GT(coverage.hits, 0);
  EXPECT_GT(coverage.refused, 0);
  EXPECT_GT(coverage.all_down, 0);
}

}  // namespace
}  // namespace hearth
