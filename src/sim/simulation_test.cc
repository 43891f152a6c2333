// The engine's core driven from a seed: random requests, cancels, deadlines, tight memory, and after every step all
// invariants. HEARTH_SIM_SEED=N runs one seed.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "engine/engine_core.h"
#include "engine/parallel_runner.h"
#include "engine/test_grammar.h"
#include "sim/simulated_runner.h"

namespace hearth {
namespace {

constexpr int64_t kShards = 4;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int64_t kSeedsPerShard = 150;  // a tenth of the speed
#else
constexpr int64_t kSeedsPerShard = 1000;
#endif

class Random {
 public:
  explicit Random(uint64_t seed) : generator_(seed) {}
  int64_t between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(generator_() % static_cast<uint64_t>(high - low + 1));
  }
  bool chance(double probability) { return between(0, 999'999) < probability * 1e6; }

 private:
  std::mt19937_64 generator_;
};

// What happened over many seeds: a simulation that never preempts proves nothing about preemption.
struct Coverage {
  int64_t preemptions = 0, prefix_hits = 0, overlapped = 0, refused = 0, cancelled = 0, late = 0, nan = 0, stopped = 0;
  int64_t device_failures = 0, full_length = 0, prompt_logprobs = 0, over_target = 0;
  int64_t ranks = 0, rank_failures = 0;  // worlds of several ranks; such that ended with one that was not the first
  int64_t prompt_blocks_full = 0, constrained = 0, constrained_overlapped = 0, draws_taken_back = 0;
  int64_t constrained_preemptions = 0, constrained_cancelled = 0;
};

// Masks that come late, now and then, as those of busy threads.
class LateMaskMaker final : public MaskMaker {
 public:
  explicit LateMaskMaker(uint64_t seed) : random_(seed) {}
  void ask(std::shared_ptr<NextTokens> next, int32_t token) override {
    prepare(*next, token);
    late_.push_back(std::move(next));
    make_some(0.5);
  }
  void wait(Duration timeout) override { make_some(timeout < std::chrono::milliseconds(10) ? 0.5 : 1); }
  void make_some(double share) {
    std::erase_if(late_, [&](const auto& next) {
      if (!random_.chance(share)) return false;
      make(*next);
      return true;
    });
  }

 private:
  Random random_;
  std::vector<std::shared_ptr<NextTokens>> late_;
};

// A router's picture of the prefix cache.
class HeardBlocks final : public KvEventSink {
 public:
  void stored(uint64_t link, uint64_t before, std::span<const int32_t>) override {
    EXPECT_TRUE(before == 0 || known_.contains(before));
    EXPECT_TRUE(known_.insert(link).second);
  }
  void removed(uint64_t link) override { EXPECT_EQ(known_.erase(link), 1u); }
  void flush() override {}

 private:
  std::set<uint64_t> known_;
};

struct Scenario {
  EngineOptions engine;
  SimulatedRunner::Options runner;
  int64_t ranks = 1, failing_rank = 0;  // that share the model; that which fails, where one does
  int64_t num_requests;
  double arrival, cancel, deadline, nan, logprobs, penalties, stops, grammars;
  int64_t longest_prompt, longest_output;
};

Scenario make_scenario(Random& random) {
  Scenario s;
  RunnerLimits& limits = s.runner.limits;
  limits.block_size = random.between(1, 8);
  limits.num_blocks = random.between(4, 30);
  limits.vocab_size = random.between(3, 60);
  limits.max_model_len = random.between(4, 120);
  limits.max_sequences = random.between(1, 10);
  limits.max_tokens = random.between(1, 40);
  limits.max_logits = limits.max_sequences + random.between(0, 6);
  limits.max_logprobs = random.between(1, 5);
  limits.max_edits = limits.vocab_size * random.between(1, 3);
  s.engine.max_num_seqs = random.between(1, limits.max_sequences);
  s.engine.max_num_batched_tokens = random.between(1, limits.max_tokens);
  s.engine.max_num_queued_requests = random.between(1, 20);
  s.engine.max_queue_bytes = random.between(1, 20) * 8192;
  s.engine.max_logprobs = limits.max_logprobs;
  s.engine.prefix_cache = random.chance(0.8);
  if (random.chance(0.5)) s.engine.kv_events = std::make_shared<HeardBlocks>();
  s.engine.prefix_mode = random.chance(0.8) ? PrefixMode::kExact : PrefixMode::kFast;
  for (int64_t i = random.between(0, 2); i-- > 0;) {
    s.engine.end_tokens.push_back(static_cast<int32_t>(random.between(0, limits.vocab_size - 1)));
  }
  s.runner.model.vocab_size = static_cast<int32_t>(limits.vocab_size);
  s.runner.model.paths_differ = s.engine.prefix_mode == PrefixMode::kExact;
  s.runner.fail_at_step = random.chance(0.05) ? random.between(1, 100) : 0;
  if (random.chance(0.3)) {
    auto target = [&](int64_t most_ms) {
      return random.chance(0.6) ? static_cast<double>(random.between(1, most_ms)) / 1000 : 0;
    };
    s.engine.targets = {.ttft = target(300), .tpot = target(40), .latency = target(1000)};
  }
  s.engine.request_targets = random.chance(0.2);
  s.num_requests = random.between(1, 60);
  s.arrival = random.chance(0.2) ? 0.9 : random.chance(0.5) ? 0.5 : 0.1;
  s.cancel = random.chance(0.5) ? 0.05 : 0;
  s.deadline = random.chance(0.3) ? 0.3 : 0;
  if (random.chance(0.2)) s.runner.model.nan_token = static_cast<int32_t>(limits.vocab_size - 1);
  s.logprobs = random.chance(0.5) ? 0.4 : 0;
  s.penalties = random.chance(0.5) ? 0.4 : 0;
  s.stops = random.chance(0.5) ? 0.4 : 0;
  s.grammars = random.chance(0.5) ? random.chance(0.2) ? 1 : 0.4 : 0;
  if (random.chance(0.7))
    s.engine.mask_maker = std::make_shared<LateMaskMaker>(static_cast<uint64_t>(random.between(0, 1 << 30)));
  s.longest_prompt = random.between(1, 100);
  s.longest_output = random.between(1, 60);
  if (random.chance(0.4)) {  // many short prompts that grow until the blocks run out
    limits.block_size = random.between(1, 3);
    limits.num_blocks = random.between(8, 30);
    limits.max_model_len = random.between(20, 60);
    s.engine.max_num_seqs = limits.max_sequences;
    s.longest_prompt = random.between(1, 6);
    s.longest_output = 60;
  }
  if (random.chance(0.4)) {
    limits.max_prompt_blocks = ceil_div(limits.max_model_len, limits.block_size) + random.between(0, 3);
  }
  if (random.chance(0.3)) {
    s.ranks = random.chance(0.7) ? 2 : 4;
    s.failing_rank = random.between(0, s.ranks - 1);
  }
  return s;
}

// What a request must give, from its own tokens alone and computed without the engine.
struct Expected {
  std::vector<OutputToken> tokens;
  std::vector<std::optional<TokenLogprob>> prompt_logprobs;
  FinishReason finish = FinishReason::kLength;
};

Expected expect(const Request& request, const Scenario& scenario) {
  const SamplingParams& sampling = request.sampling;
  const FakeModel& model = scenario.runner.model;
  const RunnerLimits& limits = scenario.runner.limits;
  const int64_t prompt_len = std::ssize(request.prompt);
  const int64_t context = std::min(limits.max_model_len, limits.num_blocks * limits.block_size);
  std::set<int32_t> stops(sampling.stop_token_ids.begin(), sampling.stop_token_ids.end());
  if (!sampling.ignore_eos || request.grammar)
    stops.insert(scenario.engine.end_tokens.begin(), scenario.engine.end_tokens.end());

  Expected out;
  uint64_t state = FakeModel::kStart;
  auto logprob = [&](const FakeModel::Output& sample, int32_t num_top) {
    TokenLogprob result{sample.token, sample.logprob, sample.rank, {}};
    for (int32_t k = 0; k < num_top; ++k) {
      result.top.emplace_back(model.top_token(sample.token, k), sample.logprob - static_cast<float>(k));
    }
    return result;
  };
  if (sampling.prompt_logprobs >= 0) out.prompt_logprobs.emplace_back();
  for (int64_t i = 0; i < prompt_len; ++i) {
    state = model.next_state(state, request.prompt[i], i, false);
    if (i + 1 == prompt_len || sampling.prompt_logprobs < 0) continue;
    SamplingRow row;
    row.position = static_cast<int32_t>(i + 1);
    row.target = request.prompt[i + 1];
    const TokenLogprob next = logprob(model.sample(state, row, {}), sampling.prompt_logprobs);
    out.prompt_logprobs.push_back(i + 1 < sampling.prompt_logprobs_from ? std::nullopt : std::optional(next));
    if (state == FakeModel::kNan) return {{}, {}, FinishReason::kError};
  }
  std::vector<int32_t> generated;
  const auto constraint = request.grammar ? request.grammar->start() : nullptr;
  while (std::ssize(generated) < sampling.max_tokens && prompt_len + std::ssize(generated) < context) {
    std::map<int32_t, FakeModel::Edit> edits;
    auto edit = [&](int32_t token) -> FakeModel::Edit& {
      return edits.try_emplace(token, FakeModel::Edit{token, 0, 0}).first->second;
    };
    for (const auto& [token, bias] : sampling.logit_bias) edit(token).bias = bias;
    if (sampling.repetition_penalty != 1) {
      for (int32_t token : request.prompt) edit(token).count = -1;
    }
    if (sampling.repetition_penalty != 1 || sampling.frequency_penalty != 0 || sampling.presence_penalty != 0) {
      for (int32_t token : generated) {
        edit(token).count = static_cast<int32_t>(std::count(generated.begin(), generated.end(), token));
      }
    }
    std::vector<int32_t> mask(static_cast<size_t>(Constraint::mask_words(limits.vocab_size)));
    const bool masked = constraint != nullptr && constraint->fill_mask(mask);
    int64_t others = 0;
    for (int32_t token = 0; masked && token < limits.vocab_size; ++token) {
      others += (static_cast<uint32_t>(mask[static_cast<size_t>(token / 32)]) >> (token % 32) & 1) != 0 &&
                !stops.contains(token);
    }
    if (std::ssize(generated) < sampling.min_tokens && !(masked && others == 0)) {
      for (int32_t token : stops) edit(token).bias = -INFINITY;
    }
    std::vector<FakeModel::Edit> list;
    for (const auto& [token, e] : edits) {
      if (e.count != 0 || e.bias != 0) list.push_back(e);
    }
    SamplingRow row;
    row.temperature = sampling.temperature;
    row.top_p = sampling.top_p;
    row.min_p = sampling.min_p;
    row.frequency_penalty = sampling.frequency_penalty;
    row.presence_penalty = sampling.presence_penalty;
    row.repetition_penalty = sampling.repetition_penalty;
    row.top_k = sampling.top_k;
    row.seed = sampling.seed;
    row.position = static_cast<int32_t>(prompt_len + std::ssize(generated));
    const FakeModel::Output sample = model.sample(state, row, list, masked ? &mask : nullptr);
    if (sample.token < 0) {
      out.finish = FinishReason::kError;
      return out;
    }
    generated.push_back(sample.token);
    out.tokens.push_back({sample.token, {}});
    if (sampling.logprobs >= 0) out.tokens.back().logprob = logprob(sample, sampling.logprobs);
    if (stops.contains(sample.token)) {
      out.finish = FinishReason::kStop;
      break;
    }
    state = model.next_state(state, sample.token, row.position, true);
    if (constraint == nullptr) continue;
    if (!constraint->accept(sample.token)) throw std::runtime_error("the model drew what its mask has not");
    if (sampling.logprobs >= 0) continue;
    for (const int32_t token : constraint->jump_ahead()) {
      const int64_t position = prompt_len + std::ssize(generated);
      if (std::ssize(generated) == sampling.max_tokens || position == context) break;
      state = model.next_state(state, token, position, true);
      generated.push_back(token);
      out.tokens.push_back({token, {}});
      if (!stops.contains(token)) continue;
      out.finish = FinishReason::kStop;
      return out;
    }
  }
  return out;
}

// Each rank has a cache of its own: one that held other tokens than the first's would draw others, and end the world.
std::unique_ptr<Runner> make_ranks(const Scenario& scenario, ManualClock& clock) {
  std::vector<std::unique_ptr<Runner>> ranks;
  for (int64_t rank = 0; rank < scenario.ranks; ++rank) {
    SimulatedRunner::Options options = scenario.runner;
    if (rank != scenario.failing_rank) options.fail_at_step = 0;
    ranks.push_back(std::make_unique<SimulatedRunner>(options, clock));
  }
  return ranks.size() == 1 ? std::move(ranks[0]) : make_parallel_runner(std::move(ranks));
}

// Looks at the engine when most is in flight: before it waits.
class WatchedRunner final : public Runner {
 public:
  WatchedRunner(std::unique_ptr<Runner> runner, std::function<void()> before_wait)
      : runner_(std::move(runner)), before_wait_(std::move(before_wait)) {}
  RunnerLimits limits() const override { return runner_->limits(); }
  void submit(const StepPlan& plan) override { runner_->submit(plan); }
  StepResult wait() override {
    before_wait_();
    return runner_->wait();
  }

 private:
  const std::unique_ptr<Runner> runner_;
  std::function<void()> before_wait_;
};

class World {
 public:
  explicit World(uint64_t seed)
      : random_(seed),
        scenario_(make_scenario(random_)),
        core_(std::make_unique<WatchedRunner>(make_ranks(scenario_, clock_), [this] { check_steps_in_flight(); }),
              scenario_.engine, clock_) {
    constructed_ = true;
    for (int64_t i = random_.between(1, 3); i-- > 0;) prefixes_.push_back(random_tokens(scenario_.longest_prompt));
  }

  void run(Coverage& coverage) {
    int64_t submitted = 0;
    int64_t turns = 0;
    while (submitted < scenario_.num_requests || core_.scheduler().has_work()) {
      ASSERT_LT(++turns, 200'000) << "no progress";
      while (submitted < scenario_.num_requests && random_.chance(scenario_.arrival)) submit(submitted++, coverage);
      if (random_.chance(scenario_.cancel)) cancel(random_.between(0, scenario_.num_requests - 1));
      if (random_.chance(0.5)) clock_.advance(core_.patience());
      const Status status = core_.step();
      if (!status.ok()) {
        ++coverage.device_failures;
        coverage.rank_failures += scenario_.failing_rank > 0 ? 1 : 0;
        EXPECT_EQ(status.message(), "the simulated device failed");
        check_failure();
        return;
      }
      core_.scheduler().check_integrity();
      if (::testing::Test::HasFailure()) return;
    }
    EXPECT_EQ(core_.scheduler().pool().used(), 0) << "blocks leaked";
    const EngineStats stats = core_.scheduler().stats();
    EXPECT_EQ(stats.running + stats.waiting, 0);
    coverage.preemptions += stats.preemptions;
    coverage.prefix_hits += stats.prefix_hits;
    coverage.overlapped += overlapped_;
    coverage.ranks += scenario_.ranks > 1 ? 1 : 0;
    coverage.draws_taken_back += stats.draws_taken_back;
    if (scenario_.grammars == 1) {
      coverage.constrained_overlapped += overlapped_;
      coverage.constrained_preemptions += stats.preemptions;
    }
    coverage.prompt_blocks_full += prompt_blocks_full_;
    for (const auto& [index, caller] : callers_) check(caller, coverage);
  }

 private:
  struct Caller {
    Request request;
    bool cancelled = false;
    std::vector<OutputToken> tokens;
    std::vector<std::optional<TokenLogprob>> prompt_logprobs;
    int64_t finals = 0;
    FinishReason finish = FinishReason::kError;
    Code error = Code::kOk;
  };

  std::vector<int32_t> random_tokens(int64_t count) {
    std::vector<int32_t> out(count);
    // The last token of the vocabulary may be the one that gives NaN: seldom.
    for (int32_t& token : out) {
      const int64_t last = scenario_.runner.limits.vocab_size - 1;
      token = static_cast<int32_t>(random_.between(0, random_.chance(0.02) ? last : last - 1));
    }
    return out;
  }

  Request random_request(int64_t index) {
    Request request;
    request.id = std::to_string(index);
    request.arrival = clock_.now();
    if (random_.chance(0.6)) {
      request.prompt = prefixes_[random_.between(0, std::ssize(prefixes_) - 1)];
      request.prompt.resize(random_.between(0, std::ssize(request.prompt)));
    }
    const auto rest = random_tokens(random_.between(random_.chance(0.01) ? 0 : 1, scenario_.longest_prompt));
    request.prompt.insert(request.prompt.end(), rest.begin(), rest.end());
    const RunnerLimits& limits = scenario_.runner.limits;
    const int64_t fits = std::min(limits.max_model_len, limits.num_blocks * limits.block_size) - 1;
    if (std::ssize(request.prompt) > fits && random_.chance(0.95)) request.prompt.resize(fits);
    SamplingParams& sampling = request.sampling;
    sampling.seed = static_cast<uint64_t>(random_.between(0, 3));
    sampling.temperature = random_.chance(0.5) ? 0 : 1;
    sampling.max_tokens = random_.between(0, scenario_.longest_output);
    if (random_.chance(scenario_.logprobs)) {
      sampling.logprobs = static_cast<int32_t>(random_.between(0, scenario_.engine.max_logprobs));
    }
    if (random_.chance(scenario_.logprobs)) {
      sampling.prompt_logprobs = static_cast<int32_t>(random_.between(0, scenario_.engine.max_logprobs));
      const int64_t last = std::ssize(request.prompt) - 1;
      if (random_.chance(0.5) && last > 1) sampling.prompt_logprobs_from = random_.between(1, last);
    }
    if (random_.chance(scenario_.penalties)) {
      if (random_.chance(0.5)) sampling.repetition_penalty = 1.1f;
      if (random_.chance(0.5)) sampling.frequency_penalty = 0.5f;
      if (random_.chance(0.5)) sampling.logit_bias.emplace_back(static_cast<int32_t>(random_.between(0, 2)), 3.0f);
    }
    if (random_.chance(scenario_.stops)) {
      sampling.stop_token_ids.push_back(static_cast<int32_t>(random_.between(0, 2)));
      if (scenario_.engine.end_tokens.size() + 1 < static_cast<size_t>(scenario_.runner.limits.vocab_size)) {
        sampling.min_tokens = random_.between(0, 5);
      }
      sampling.ignore_eos = random_.chance(0.5);
    }
    if (random_.chance(scenario_.deadline)) {
      request.deadline = clock_.now() + std::chrono::milliseconds(random_.between(-5, 500));
    }
    if (random_.chance(0.2)) {
      request.targets.ttft = static_cast<double>(random_.between(1, 300)) / 1000;
      request.targets.tpot = random_.chance(0.5) ? static_cast<double>(random_.between(1, 40)) / 1000 : 0;
    }
    if (random_.chance(scenario_.grammars)) {
      request.grammar = std::make_shared<FakeGrammar>(static_cast<uint64_t>(random_.between(1, 1000)),
                                                      scenario_.runner.limits.vocab_size, scenario_.engine.end_tokens,
                                                      static_cast<uint64_t>(random_.chance(0.5) ? 1 : 5));
    }
    request.priority = static_cast<int32_t>(random_.chance(0.8) ? 0 : random_.between(-1, 1));
    return request;
  }

  void submit(int64_t index, Coverage& coverage) {
    Request request = random_request(index);
    const Status status = core_.scheduler().accept(request, clock_.now());
    if (!status.ok()) {
      check_refusal(request, status, coverage);
      ++coverage.refused;
      return;
    }
    Caller& caller = callers_[index];
    caller.request = request;
    request.on_event = [this, &caller](RequestEvent&& event) {
      // Masks come at any time, while a step is made too.
      if (late_masks_ != nullptr) late_masks_->make_some(0.3);
      EXPECT_EQ(caller.finals, 0) << "an event after the last";
      if (!event.prompt_logprobs.empty()) {
        EXPECT_TRUE(caller.prompt_logprobs.empty() && caller.tokens.empty());
        caller.prompt_logprobs = std::move(event.prompt_logprobs);
      }
      caller.tokens.insert(caller.tokens.end(), event.tokens.begin(), event.tokens.end());
      if (!event.finish) return;
      ++caller.finals;
      caller.finish = *event.finish;
      caller.error = event.error.code();
    };
    core_.scheduler().add(std::move(request));
  }

  void check_refusal(const Request& request, const Status& status, Coverage& coverage) {
    const RunnerLimits& limits = scenario_.runner.limits;
    switch (status.code()) {
      case Code::kInvalidArgument:
        EXPECT_TRUE(request.prompt.empty() ||
                    std::ssize(request.prompt) + std::min<int64_t>(request.sampling.max_tokens, 1) >
                        std::min(limits.max_model_len, limits.num_blocks * limits.block_size));
        break;
      case Code::kResourceExhausted: {
        const int64_t waiting = core_.scheduler().stats().waiting;
        EXPECT_GE(waiting, 1);  // one is always taken
        const int64_t most_bytes = (waiting + 1) * 8192;
        EXPECT_TRUE(waiting >= scenario_.engine.max_num_queued_requests ||
                    most_bytes > scenario_.engine.max_queue_bytes);
        break;
      }
      case Code::kTimedOut: EXPECT_TRUE(request.deadline && clock_.now() >= *request.deadline); break;
      default:
        EXPECT_EQ(status.code(), Code::kDeadlineExceeded);
        EXPECT_TRUE(scenario_.engine.keeps_targets());
        ++coverage.over_target;
    }
  }

  void cancel(int64_t index) {
    core_.scheduler().cancel(std::to_string(index));
    const auto it = callers_.find(index);
    if (it == callers_.end()) return;
    EXPECT_EQ(it->second.finals, 1);
    it->second.cancelled = true;
  }

  // No step writes to a block that another sequence's part of a step in flight refers to.
  void check_steps_in_flight() {
    if (!constructed_) return;  // the core measures step times
    core_.scheduler().check_integrity();
    const auto& in_flight = core_.scheduler().in_flight();
    const int64_t size = scenario_.runner.limits.block_size;
    std::map<int32_t, std::set<int64_t>> users;
    for (const StepPlan& plan : in_flight) {
      for (const StepSequence& part : plan.sequences) {
        for (int32_t i = 0; i < part.num_blocks; ++i) users[plan.block_ids[part.first_block + i]].insert(part.sequence);
      }
    }
    for (const StepPlan& plan : in_flight) {
      for (const StepSequence& part : plan.sequences) {
        for (int64_t i = part.start / size; i < part.num_blocks; ++i) {
          EXPECT_EQ(users[plan.block_ids[part.first_block + i]].size(), 1u);
        }
      }
    }
    for (const StepSequence& part : in_flight.back().sequences) {
      const int32_t id = in_flight.back().token_ids[part.first_token + part.num_tokens - 1];
      overlapped_ += id < 0 ? 1 : 0;
    }
    const int64_t limit = scenario_.runner.limits.max_prompt_blocks;
    prompt_blocks_full_ += limit > 0 && in_flight.back().prompt_blocks(size) == limit;
  }

  void check(const Caller& caller, Coverage& coverage) {
    ASSERT_EQ(caller.finals, 1);
    const Expected expected = expect(caller.request, scenario_);
    ASSERT_LE(caller.tokens.size(), expected.tokens.size());
    for (size_t i = 0; i < caller.tokens.size(); ++i) {
      ASSERT_EQ(caller.tokens[i].token, expected.tokens[i].token) << "request " << caller.request.id << ", token " << i;
      ASSERT_TRUE(caller.tokens[i].logprob == expected.tokens[i].logprob);
    }
    if (caller.finish == FinishReason::kCancelled) {
      EXPECT_TRUE(caller.cancelled);
      ++coverage.cancelled;
      coverage.constrained_cancelled += caller.request.grammar != nullptr && !caller.tokens.empty() ? 1 : 0;
    } else if (caller.error == Code::kTimedOut) {
      EXPECT_TRUE(caller.request.deadline.has_value());
      ++coverage.late;
    } else {
      EXPECT_EQ(caller.finish, expected.finish);
      EXPECT_EQ(caller.error, expected.finish == FinishReason::kError ? Code::kInternal : Code::kOk);
      EXPECT_EQ(caller.tokens.size(), expected.tokens.size());
      coverage.constrained += caller.request.grammar != nullptr && expected.tokens.size() > 5 ? 1 : 0;
      coverage.nan += expected.finish == FinishReason::kError ? 1 : 0;
      coverage.stopped += expected.finish == FinishReason::kStop ? 1 : 0;
      coverage.full_length += expected.finish == FinishReason::kLength ? 1 : 0;
      if (expected.finish == FinishReason::kError && caller.tokens.empty()) return;
      ASSERT_EQ(caller.prompt_logprobs.size(), expected.prompt_logprobs.size());
      coverage.prompt_logprobs += caller.prompt_logprobs.empty() ? 0 : 1;
      for (size_t i = 0; i < expected.prompt_logprobs.size(); ++i) {
        ASSERT_TRUE(caller.prompt_logprobs[i] == expected.prompt_logprobs[i]) << "entry " << i;
      }
    }
  }

  // After the device failed everybody has been told.
  void check_failure() {
    EXPECT_GT(scenario_.runner.fail_at_step, 0);
    for (const auto& [index, caller] : callers_) EXPECT_EQ(caller.finals, 1);
  }

  Random random_;
  Scenario scenario_;
  ManualClock clock_;
  bool constructed_ = false;
  EngineCore core_;
  std::vector<std::vector<int32_t>> prefixes_;
  std::map<int64_t, Caller> callers_;
  int64_t overlapped_ = 0, prompt_blocks_full_ = 0;
  LateMaskMaker* const late_masks_ = dynamic_cast<LateMaskMaker*>(scenario_.engine.mask_maker.get());
};

std::string replay;

// An invariant that does not hold ends the process: say how to get there again.
void on_crash(int signal) {
  [[maybe_unused]] const auto written = write(STDERR_FILENO, replay.data(), replay.size());
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void run_seed(uint64_t seed, Coverage& coverage) {
  replay = cat("replay: HEARTH_SIM_SEED=", seed, " build/sim_test --gtest_filter='*Simulation.Seeds/0'\n");
  SCOPED_TRACE(replay);
  World(seed).run(coverage);
}

class Simulation : public ::testing::TestWithParam<int64_t> {};

TEST_P(Simulation, Seeds) {
  std::signal(SIGABRT, on_crash);
  std::signal(SIGSEGV, on_crash);
  Coverage coverage;
  if (const char* seed = std::getenv("HEARTH_SIM_SEED")) {
    if (GetParam() == 0) run_seed(std::strtoull(seed, nullptr, 10), coverage);
    return;
  }
  for (int64_t i = 0; i < kSeedsPerShard && !HasFailure(); ++i) run_seed(GetParam() * kSeedsPerShard + i, coverage);
  if (HasFailure()) return;
  EXPECT_GT(coverage.preemptions, 0);
  EXPECT_GT(coverage.prefix_hits, 0);
  EXPECT_GT(coverage.overlapped, 0);
  EXPECT_GT(coverage.prompt_blocks_full, 0);
  EXPECT_GT(coverage.refused, 0);
  EXPECT_GT(coverage.cancelled, 0);
  EXPECT_GT(coverage.late, 0);
  EXPECT_GT(coverage.nan, 0);
  EXPECT_GT(coverage.constrained, 0);
  EXPECT_GT(coverage.constrained_overlapped, 0);
  EXPECT_GT(coverage.constrained_preemptions, 0);
  EXPECT_GT(coverage.constrained_cancelled, 0);
  EXPECT_GT(coverage.draws_taken_back, 0);
  EXPECT_GT(coverage.stopped, 0);
  EXPECT_GT(coverage.full_length, 0);
  EXPECT_GT(coverage.prompt_logprobs, 0);
  EXPECT_GT(coverage.device_failures, 0);
  EXPECT_GT(coverage.over_target, 0);
  EXPECT_GT(coverage.ranks, 0);
  EXPECT_GT(coverage.rank_failures, 0);
}

void submit(EngineCore& core, const Clock& clock, const std::string& id, int64_t prompt_tokens, int64_t output_tokens) {
  Request request;
  request.id = id;
  request.prompt.assign(static_cast<size_t>(prompt_tokens), 0);
  request.sampling.max_tokens = output_tokens;
  request.sampling.ignore_eos = true;
  request.arrival = clock.now();
  request.on_event = [](RequestEvent&&) {};
  ASSERT_TRUE(core.scheduler().accept(request, clock.now()).ok());
  core.scheduler().add(std::move(request));
}

// Four sequences at most, steps of 10 ms.
std::unique_ptr<EngineCore> steady_core(ManualClock& clock) {
  SimulatedRunner::Options options;
  options.limits = {.num_blocks = 16,
                    .block_size = 64,
                    .max_model_len = 100,
                    .vocab_size = 10,
                    .max_tokens = 64,
                    .max_sequences = 4,
                    .max_logits = 4,
                    .max_logprobs = 1,
                    .max_edits = 10};
  options.model.vocab_size = 10;
  options.step_time = {.fixed_us = 10'000, .experts_us = 0, .token_us = 0, .context_token_us = 0, .prompt_pair_us = 0};
  EngineOptions engine;
  engine.max_num_seqs = 4;
  engine.max_num_batched_tokens = 64;
  engine.max_logprobs = 1;
  return std::make_unique<EngineCore>(std::make_unique<SimulatedRunner>(options, clock), engine, clock);
}

// Only what the device waits for while somebody waits for it is idle time.
TEST(DeviceTime, IsBusyOrIdle) {
  ManualClock clock;
  const auto owner = steady_core(clock);
  EngineCore& core = *owner;
  const auto answer = [&](const std::string& id, Duration host_time) {
    submit(core, clock, id, 3, 4);
    while (core.scheduler().has_work()) {
      ASSERT_TRUE(core.step().ok());
      clock.advance(host_time);
    }
  };
  const auto expect = [&](int64_t steps, double idle) {
    const EngineStats stats = core.scheduler().stats();
    EXPECT_EQ(stats.steps, steps);
    EXPECT_NEAR(stats.device_busy_seconds, 0.01 * static_cast<double>(steps), 1e-9);
    EXPECT_NEAR(stats.device_idle_seconds, idle, 1e-9);
  };
  clock.advance(std::chrono::seconds(1));
  answer("a", Duration(0));
  expect(4, 0);
  clock.advance(std::chrono::seconds(1));  // nobody asks for anything
  answer("b", Duration(0));
  expect(8, 0);
  answer("c", std::chrono::milliseconds(15));  // so late is the host with each step, two being in flight
  expect(12, 3 * 0.005);
}

// The thread waits, the device does not.
TEST(LatePlanning, TakesWhoArrivesDuringAStepIntoTheNext) {
  ManualClock clock;
  const auto core = steady_core(clock);
  EXPECT_EQ(core->patience(), Duration::zero()) << "nothing runs";
  submit(*core, clock, "a", 3, 30);
  ASSERT_TRUE(core->step().ok());
  EXPECT_EQ(core->patience(), Duration::zero()) << "nothing is known of such steps";
  for (int i = 0; i < 5; ++i) {
    clock.advance(core->patience());
    ASSERT_TRUE(core->step().ok());
  }
  const Duration patience = core->patience();
  EXPECT_EQ(patience, std::chrono::microseconds(7500));
  clock.advance(patience / 2);
  EXPECT_EQ(core->patience(), patience - patience / 2);
  submit(*core, clock, "b", 3, 30);
  const StepPlan& running = core->scheduler().in_flight().front();
  EXPECT_EQ(std::ssize(running.sequences), 1);
  clock.advance(core->patience());
  ASSERT_TRUE(core->step().ok());
  EXPECT_EQ(std::ssize(core->scheduler().in_flight().front().sequences), 2);
  EXPECT_EQ(core->scheduler().stats().device_idle_seconds, 0);

  clock.advance(std::chrono::milliseconds(20));  // late, once
  ASSERT_TRUE(core->step().ok());
  ASSERT_TRUE(core->step().ok());
  EXPECT_GT(core->scheduler().stats().device_idle_seconds, 0);
  EXPECT_LT(core->patience(), std::chrono::milliseconds(7)) << "more is left for planning from then on";
}

// How many tokens of a prompt, or of several, join `readers` sequences that generate, step after step.
std::vector<int64_t> prompt_chunks(int readers, const std::vector<int64_t>& prompts) {
  ManualClock clock;
  SimulatedRunner::Options options;
  options.limits = {.num_blocks = 200, .max_model_len = 4000, .vocab_size = 1, .max_tokens = 600, .max_sequences = 8};
  options.limits.max_logits = options.limits.max_edits = 8;
  options.time_only = true;
  EngineOptions engine;
  engine.max_num_seqs = 8;
  engine.max_num_batched_tokens = 600;
  engine.prefix_cache = false;
  engine.max_logprobs = 0;
  EngineCore core(std::make_unique<SimulatedRunner>(options, clock), engine, clock);
  int number = 0;
  const auto add = [&](int64_t prompt, int64_t output) {
    submit(core, clock, std::to_string(++number), prompt, output);
  };
  for (int i = 0; i < readers; ++i) add(2, 50);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(core.step().ok());
  int64_t left = 0;
  for (int64_t prompt : prompts) add(prompt, 1), left += prompt;
  std::vector<int64_t> chunks;
  while (left > 0 && chunks.size() < 20) {
    EXPECT_NE(core.scheduler().schedule(clock.now()), nullptr);
    const StepPlan& plan = core.scheduler().in_flight().back();
    core.runner().submit(plan);
    left -= chunks.emplace_back(plan.num_tokens() - readers);
    while (core.scheduler().num_in_flight() > 0) core.scheduler().commit(core.runner().wait(), clock.now());
  }
  return chunks;
}

TEST(PromptChunks, AreSpreadOverStepsWhereManyWouldWait) {
  using Chunks = std::vector<int64_t>;
  EXPECT_EQ(prompt_chunks(5, {1000}), (Chunks{445, 445, 110}));  // three quarters of a step at least
  EXPECT_EQ(prompt_chunks(5, {500}), (Chunks{500}));             // no step for a few tokens more
  EXPECT_EQ(prompt_chunks(5, {520}), (Chunks{445, 75}));
  EXPECT_EQ(prompt_chunks(5, {1000, 1000})[0], 500);  // a quarter of what waits
  EXPECT_EQ(prompt_chunks(5, {1300, 1300})[0], 595);  // the queue grows: as much as fits
  EXPECT_EQ(prompt_chunks(4, {1000}), (Chunks{596, 404}));
  EXPECT_EQ(prompt_chunks(0, {1000}), (Chunks{600, 400}));
}

INSTANTIATE_TEST_SUITE_P(Shards, Simulation, ::testing::Range<int64_t>(0, kShards));

}  // namespace
}  // namespace hearth
