// The whole engine on the CPU backend: what a request gets does not depend on what runs beside it, to the bit.
#include "engine/engine.h"

#include <gtest/gtest.h>

#include <future>
#include <map>
#include <mutex>
#include <random>

#include "cpu/cpu_backend.h"
#include "engine/background_runner.h"
#include "engine/engine_core.h"
#include "engine/model_runner.h"
#include "engine/replicas.h"
#include "engine/test_grammar.h"
#include "engine/test_model.h"

namespace hearth {
namespace {

constexpr int64_t kMaxTokens = 300;
constexpr int64_t kMaxLogits = 80;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int64_t kRequests = 20;  // a tenth of the speed
#else
constexpr int64_t kRequests = 50;
#endif

struct Answer {
  std::vector<OutputToken> tokens;
  std::vector<std::optional<TokenLogprob>> prompt_logprobs;
  std::optional<FinishReason> finish;
  Status error;
  int64_t cached_tokens = 0;
};

void expect_same(const Answer& a, const Answer& b, const std::string& what) {
  ASSERT_EQ(a.tokens.size(), b.tokens.size()) << what;
  for (size_t i = 0; i < a.tokens.size(); ++i) {
    ASSERT_EQ(a.tokens[i].token, b.tokens[i].token) << what << ", token " << i;
    ASSERT_TRUE(a.tokens[i].logprob == b.tokens[i].logprob) << what << ", log-probability " << i;
  }
  EXPECT_TRUE(a.prompt_logprobs == b.prompt_logprobs) << what;
  EXPECT_EQ(a.finish, b.finish) << what;
  EXPECT_EQ(a.error.code(), b.error.code()) << what;
}

// Loaded once: weights and pages live as long as the backend.
struct Device {
  std::shared_ptr<Backend> backend = make_cpu_backend(DType::kBF16, 1);
  std::shared_ptr<Model> model = TestModel::make(*backend, kMaxTokens, kMaxLogits).value();
};
Device& device() {
  static Device instance;
  return instance;
}

struct Sizes {
  int64_t max_num_seqs = 16;
  int64_t budget = 64;
  int64_t num_blocks = 64;
  bool prefix_cache = true;
  bool background = false;
  int64_t max_prompt_blocks = 0;
  std::vector<int64_t> token_buckets = {};
  LatencyTargets targets = {};
};

// Another runner whose results come otherwise.
class WrappedRunner : public Runner {
 public:
  explicit WrappedRunner(std::unique_ptr<Runner> runner) : runner_(std::move(runner)) {}
  RunnerLimits limits() const override { return runner_->limits(); }
  void submit(const StepPlan& plan) override { runner_->submit(plan); }
  StepResult wait() override { return runner_->wait(); }

 protected:
  std::unique_ptr<Runner> runner_;
};

// Steps hold few blocks of prompts.
class NarrowRunner final : public WrappedRunner {
 public:
  NarrowRunner(std::unique_ptr<Runner> runner, int64_t max_prompt_blocks)
      : WrappedRunner(std::move(runner)), max_prompt_blocks_(max_prompt_blocks) {}
  RunnerLimits limits() const override {
    RunnerLimits limits = runner_->limits();
    limits.max_model_len = max_prompt_blocks_ * limits.block_size;
    limits.max_prompt_blocks = max_prompt_blocks_;
    return limits;
  }
  void submit(const StepPlan& plan) override {
    EXPECT_LE(plan.prompt_blocks(kBlockSize), max_prompt_blocks_);
    WrappedRunner::submit(plan);
  }

 private:
  const int64_t max_prompt_blocks_;
};

std::unique_ptr<Runner> make_runner(const Sizes& sizes, Device& on = device()) {
  ModelRunnerOptions options;
  options.max_tokens = kMaxTokens;
  options.max_sequences = 64;
  options.max_logits = kMaxLogits;
  options.max_logprobs = 5;
  options.num_blocks = sizes.num_blocks;
  options.max_edits = 1000;
  options.token_buckets = sizes.token_buckets;
  auto runner = make_model_runner(on.backend, on.model, options).value();
  if (sizes.max_prompt_blocks > 0) runner = std::make_unique<NarrowRunner>(std::move(runner), sizes.max_prompt_blocks);
  if (sizes.background) return std::make_unique<BackgroundRunner>(std::move(runner));
  return runner;
}

EngineOptions engine_options(const Sizes& sizes) {
  EngineOptions options;
  options.max_num_seqs = sizes.max_num_seqs;
  options.max_num_batched_tokens = sizes.budget;
  options.max_logprobs = 5;
  options.prefix_cache = sizes.prefix_cache;
  options.end_tokens = {7};
  options.targets = sizes.targets;
  return options;
}

// Requests of all kinds, some of them with a prefix in common.
std::vector<Request> requests(int64_t count) {
  std::mt19937 random(1);
  auto between = [&](int64_t low, int64_t high) { return low + static_cast<int64_t>(random() % (high - low + 1)); };
  auto tokens = [&](int64_t n) {
    std::vector<int32_t> out(n);
    for (int32_t& token : out) token = static_cast<int32_t>(between(0, TestModel::kVocab - 2));
    return out;
  };
  const std::vector<int32_t> shared = tokens(150);
  std::vector<Request> out(count);
  for (int64_t i = 0; i < count; ++i) {
    Request& request = out[i];
    request.id = std::to_string(i);
    if (i % 3 == 0) request.prompt.assign(shared.begin(), shared.begin() + between(60, 150));
    const bool grows = i % 3 == 2;  // a short prompt and a long answer
    const auto rest = tokens(grows ? between(1, 20) : between(1, 90));
    request.prompt.insert(request.prompt.end(), rest.begin(), rest.end());
    SamplingParams& sampling = request.sampling;
    sampling.seed = static_cast<uint64_t>(i);
    sampling.temperature = i % 2 == 0 ? 0.0f : 1.0f;
    sampling.max_tokens = grows ? between(130, 200) : between(1, 40);
    if (i % 4 == 1) sampling.top_p = 0.9f;
    if (i % 5 == 1) sampling.top_k = 20;
    if (i % 5 == 2) sampling.min_p = 0.05f;
    if (i % 5 == 3) sampling.repetition_penalty = 1.2f;
    if (i % 7 == 3) sampling.frequency_penalty = 0.3f;
    if (i % 7 == 5) sampling.logit_bias = {{3, 2.0f}, {9, -4.0f}};
    if (i % 3 == 1) sampling.logprobs = static_cast<int32_t>(between(0, 5));
    if (i % 8 == 2) sampling.prompt_logprobs = static_cast<int32_t>(between(0, 5));
    if (i % 6 == 4) sampling.stop_token_ids = {11, 12};
    if (i % 6 == 4) sampling.min_tokens = 5;
    sampling.ignore_eos = grows;
    if (i % 4 == 3) {
      request.grammar =
          std::make_shared<FakeGrammar>(static_cast<uint64_t>(i), TestModel::kVocab, std::vector<int32_t>{7});
    }
    request.priority = grows ? -1 : 0;  // many at once
  }
  return out;
}

EventSink collect(Answer& answer) {
  return [&answer](RequestEvent&& event) {
    EXPECT_FALSE(answer.finish.has_value());
    answer.tokens.insert(answer.tokens.end(), event.tokens.begin(), event.tokens.end());
    if (!event.prompt_logprobs.empty()) answer.prompt_logprobs = std::move(event.prompt_logprobs);
    answer.finish = event.finish;
    answer.error = std::move(event.error);
    answer.cached_tokens = event.cached_tokens;
  };
}

struct Outcome {
  std::vector<Answer> answers;
  EngineStats stats;
};

// All requests at once, or each alone.
Outcome answer(const std::vector<Request>& all, const Sizes& sizes, bool one_by_one = false) {
  SteadyClock clock;
  EngineCore core(make_runner(sizes), engine_options(sizes), clock);
  Outcome out;
  out.answers.resize(all.size());
  for (size_t i = 0; i < all.size(); ++i) {
    Request request = all[i];
    request.arrival = clock.now();
    request.on_event = collect(out.answers[i]);
    EXPECT_TRUE(core.scheduler().accept(request, clock.now()).ok());
    core.scheduler().add(std::move(request));
    while (one_by_one && core.scheduler().has_work()) EXPECT_TRUE(core.step().ok());
  }
  while (core.scheduler().has_work()) {
    EXPECT_TRUE(core.step().ok());
    core.scheduler().check_integrity();
  }
  out.stats = core.scheduler().stats();
  EXPECT_EQ(out.stats.blocks_used, 0);
  return out;
}

const std::vector<Answer>& one_by_one() {
  static const std::vector<Answer> answers =
      answer(requests(kRequests), {.budget = kMaxTokens, .prefix_cache = false}, true).answers;
  return answers;
}

TEST(Engine, AnswersAreWorthComparing) {
  std::map<FinishReason, int> finishes;
  std::set<int32_t> tokens;
  for (const Answer& a : one_by_one()) {
    ++finishes[a.finish.value()];
    for (const OutputToken& t : a.tokens) tokens.insert(t.token);
  }
  EXPECT_GT(finishes[FinishReason::kStop], 0);
  EXPECT_GT(finishes[FinishReason::kLength], kRequests / 3);
  EXPECT_GT(tokens.size(), 60u);
}

TEST(Engine, DrawsWhatItsGrammarAllows) {
  const std::vector<Request> all = requests(kRequests);
  size_t longest = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    if (!all[i].grammar) continue;
    const Answer& answer = one_by_one()[i];
    longest = std::max(longest, answer.tokens.size());
    const auto constraint = all[i].grammar->start();
    for (size_t at = 0; at < answer.tokens.size();) {
      ASSERT_TRUE(constraint->accept(answer.tokens[at++].token)) << "request " << i << ", token " << at;
      if (all[i].sampling.logprobs >= 0) continue;
      for (const int32_t forced : constraint->jump_ahead()) {
        if (at == answer.tokens.size()) break;
        EXPECT_EQ(answer.tokens[at++].token, forced);
      }
    }
  }
  EXPECT_GT(longest, 20u);
}

TEST(Engine, SameBitsInAnyBatchAndAnyChunking) {
  struct Case {
    std::string name;
    Sizes sizes;
    int64_t least_preemptions, least_hits;
  };
  const Case cases[] = {
      {"wide", {.max_num_seqs = 50, .budget = 300, .num_blocks = 300}, 0, 0},
      {"narrow", {.budget = 17}, 0, 64},
      {"one sequence", {.max_num_seqs = 1, .budget = 100}, 0, 64},
      {"tight memory", {.budget = 100, .num_blocks = 7}, 2, 64},
      {"tight memory, no cache", {.budget = 100, .num_blocks = 7, .prefix_cache = false}, 2, 0},
      {"background", {.budget = 50, .background = true}, 0, 64},
      {"few blocks for prompts", {.budget = 300, .num_blocks = 300, .max_prompt_blocks = 5}, 0, 64},
      {"few blocks for prompts, tight memory", {.budget = 100, .num_blocks = 7, .max_prompt_blocks = 5}, 2, 64},
      // Its step times are measured in the very blocks that sequences get.
      {"latency targets", {.budget = 100, .targets = {.ttft = 1e3, .tpot = 1e3, .latency = 1e3}}, 0, 64},
  };
  const std::vector<Request> all = requests(kRequests);
  for (const Case& c : cases) {
    const Outcome outcome = answer(all, c.sizes);
    for (size_t i = 0; i < all.size(); ++i) {
      expect_same(outcome.answers[i], one_by_one()[i], cat(c.name, ", request ", i));
    }
    EXPECT_GE(outcome.stats.preemptions, c.least_preemptions) << c.name;
    EXPECT_GE(outcome.stats.prefix_hits, c.least_hits) << c.name;
  }
}

// The first in order goes first, the next fills what is left of the blocks, whoever finds none waits for the next step.
TEST(Engine, AStepHoldsSoManyBlocksOfPrompts) {
  const Sizes sizes{.budget = 300, .max_prompt_blocks = 5};
  Scheduler scheduler(engine_options(sizes), make_runner(sizes)->limits());
  const TimePoint now{};
  for (const int64_t tokens : {130, 200, 60}) {  // 3, 4 and 1 blocks
    Request request;
    request.id = std::to_string(tokens);
    request.prompt.assign(static_cast<size_t>(tokens), 1);
    request.prompt[0] = static_cast<int32_t>(tokens % 100);
    request.on_event = [](RequestEvent&&) {};
    ASSERT_TRUE(scheduler.accept(request, now).ok());
    scheduler.add(std::move(request));
  }
  const auto sizes_of = [](const StepPlan& plan) {
    std::vector<int32_t> out;
    for (const StepSequence& part : plan.sequences) out.push_back(part.num_tokens);
    return out;
  };
  EXPECT_EQ(sizes_of(*scheduler.schedule(now)), (std::vector<int32_t>{130, 128}));
  EXPECT_EQ(sizes_of(*scheduler.schedule(now)), (std::vector<int32_t>{1, 72, 60}));
  scheduler.check_integrity();
}

TEST(Engine, TokensCachedBeforeAreNotComputedAgain) {
  Request request = requests(1)[0];
  request.prompt.resize(140, 5);
  std::vector<Request> twice{request, request};
  twice[1].id = "again";
  const Outcome outcome = answer(twice, {}, /*one_by_one=*/true);
  EXPECT_EQ(outcome.answers[0].cached_tokens, 0);
  EXPECT_EQ(outcome.answers[1].cached_tokens, 128);
  expect_same(outcome.answers[0], outcome.answers[1], "cached");
}

TEST(Engine, ASaltKeepsCachedPrefixesApart) {
  std::vector<Request> all(4, requests(1)[0]);
  const char* salts[] = {"a", "b", "", "a"};
  for (size_t i = 0; i < all.size(); ++i) {
    all[i].id = std::to_string(i);
    all[i].prompt.resize(140, 5);
    all[i].cache_salt = salts[i];
  }
  const Outcome outcome = answer(all, {}, /*one_by_one=*/true);
  const int64_t cached[] = {0, 0, 0, 128};
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(outcome.answers[i].cached_tokens, cached[i]) << i;
    expect_same(outcome.answers[0], outcome.answers[i], "salted");
  }
}

TEST(Engine, EventsSayWhenTheirRequestLeftTheQueue) {
  ManualClock clock;
  EngineCore core(make_runner({}), engine_options({.max_num_seqs = 1}), clock);
  std::vector<RequestEvent> events[3];
  for (int i = 0; i < 3; ++i) {
    Request request;
    request.id = std::to_string(i);
    request.prompt = {1, 2, 3};
    request.sampling.max_tokens = 4;
    request.sampling.ignore_eos = true;
    request.on_event = [&mine = events[i]](RequestEvent&& event) { mine.push_back(std::move(event)); };
    ASSERT_TRUE(core.scheduler().accept(request, clock.now()).ok());
    core.scheduler().add(std::move(request));
  }
  core.scheduler().cancel("2");
  while (core.scheduler().has_work()) {
    clock.advance(std::chrono::milliseconds(1));
    EXPECT_TRUE(core.step().ok());
  }
  ASSERT_EQ(events[0].size(), 4u);
  ASSERT_EQ(events[1].size(), 4u);
  for (const RequestEvent& event : events[0]) EXPECT_EQ(event.first_scheduled, std::chrono::milliseconds(1));
  for (const RequestEvent& event : events[1]) {
    EXPECT_GT(event.first_scheduled, std::chrono::milliseconds(4));
    EXPECT_EQ(event.first_scheduled, events[1][0].first_scheduled);
  }
  ASSERT_EQ(events[2].size(), 1u);
  EXPECT_FALSE(events[2][0].first_scheduled) << "cancelled in the queue";
}

TEST(Engine, NanFailsOneRequestAlone) {
  std::vector<Request> all = requests(20);
  const std::vector<int32_t> clean = all[4].prompt;
  all[4].prompt.resize(200, 3);
  all[4].prompt[10] = TestModel::kNanToken;  // in the first of several chunks
  const Outcome outcome = answer(all, {.budget = 40});
  for (size_t i = 0; i < all.size(); ++i) {
    if (i == 4) {
      EXPECT_EQ(outcome.answers[i].finish, FinishReason::kError);
      EXPECT_EQ(outcome.answers[i].error.code(), Code::kInternal);
      EXPECT_TRUE(outcome.answers[i].tokens.empty());
    } else {
      expect_same(outcome.answers[i], one_by_one()[i], cat("request ", i));
    }
  }
  // Its blocks, full of NaN, were used again meanwhile, and nobody found them in the cache.
  std::vector<Request> again{all[4], all[4]};
  again[1].id = "again";
  for (const Answer& a : answer(again, {.budget = 40}, true).answers) EXPECT_EQ(a.cached_tokens, 0);
}

TEST(Engine, PromptLogprobsAloneGenerateNothing) {
  Request request = requests(1)[0];
  request.sampling.prompt_logprobs = 2;
  request.sampling.max_tokens = 4;
  Request none = request;
  none.sampling.max_tokens = 0;
  const Answer with = answer({request}, {}).answers[0], without = answer({none}, {}).answers[0];
  EXPECT_TRUE(without.tokens.empty());
  EXPECT_EQ(without.finish, FinishReason::kLength);
  ASSERT_EQ(without.prompt_logprobs.size(), request.prompt.size());
  EXPECT_FALSE(without.prompt_logprobs[0].has_value());
  EXPECT_EQ(without.prompt_logprobs[1]->token, request.prompt[1]);
  EXPECT_EQ(without.prompt_logprobs[1]->top.size(), 2u);
  EXPECT_TRUE(with.prompt_logprobs == without.prompt_logprobs);
}

// The end of a prompt alone, whose beginning the prefix cache has: the same bits, and the beginning is not computed
// again.
TEST(Engine, PromptLogprobsFromAPlaceOnReadTheRestFromTheCache) {
  Request whole = requests(1)[0];
  whole.prompt.resize(200, 7);
  whole.sampling.prompt_logprobs = 0;
  whole.sampling.max_tokens = 0;
  const Answer all = answer({whole}, {}).answers[0];
  Request end = whole;
  end.sampling.prompt_logprobs_from = 190;
  Request again = end;
  again.id = "again";
  const std::vector<Answer> answers = answer({end, again}, {}, true).answers;
  for (const Answer& a : answers) {
    ASSERT_EQ(a.prompt_logprobs.size(), 200u);
    for (size_t i = 0; i < 200; ++i) {
      EXPECT_TRUE(a.prompt_logprobs[i] == (i < 190 ? std::nullopt : all.prompt_logprobs[i])) << i;
    }
  }
  EXPECT_EQ(answers[0].cached_tokens, 0);
  EXPECT_EQ(answers[1].cached_tokens, 128);
}

TEST(Engine, MinTokensMasksEveryStop) {
  Request request = requests(1)[0];
  request.sampling.max_tokens = 30;
  request.sampling.temperature = 0;
  Request plain = request;
  const int32_t first = answer({plain}, {}).answers[0].tokens.at(0).token;
  request.sampling.stop_token_ids = {first};
  request.sampling.min_tokens = 30;
  const Answer masked = answer({request}, {}).answers[0];
  ASSERT_EQ(masked.tokens.size(), 30u);
  for (const OutputToken& t : masked.tokens) EXPECT_TRUE(t.token != first && t.token != 7);
  request.sampling.min_tokens = 0;
  const Answer stopped = answer({request}, {}).answers[0];
  EXPECT_EQ(stopped.tokens.size(), 1u);
  EXPECT_EQ(stopped.finish, FinishReason::kStop);
}

// The engine on its thread.

struct Waiter {
  Answer answer;
  std::promise<void> ended;
  std::future<void> future = ended.get_future();
};

EventSink wait_for(Waiter& waiter) {
  return [&waiter, sink = collect(waiter.answer)](RequestEvent&& event) {
    const bool last = event.finish.has_value();
    sink(std::move(event));
    if (last) waiter.ended.set_value();
  };
}

// Steps take some time: the next one is planned late.
class TimedRunner final : public WrappedRunner {
 public:
  using WrappedRunner::WrappedRunner;
  StepResult wait() override {
    constexpr auto kStep = std::chrono::milliseconds(12);
    std::this_thread::sleep_for(kStep);
    return runner_->wait();
  }
};

TEST(EngineThread, PlansLateAndAnswersAllTheSame) {
  const std::vector<Answer>& expected = one_by_one();
  SteadyClock clock;
  const auto engine = make_engine(std::make_unique<BackgroundRunner>(std::make_unique<TimedRunner>(make_runner({}))),
                                  engine_options({}), clock);
  constexpr size_t kSome = 8;
  std::vector<Request> some = requests(kRequests);
  std::vector<Waiter> waiters(kSome);
  for (size_t i = 0; i < kSome; ++i) {
    some[i].on_event = wait_for(waiters[i]);
    EXPECT_TRUE(engine->submit(std::move(some[i])).ok());
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  for (size_t i = 0; i < kSome; ++i) {
    waiters[i].future.wait();
    expect_same(waiters[i].answer, expected[i], cat("request ", i));
  }
}

TEST(EngineThread, AnswersRequestsFromManyThreads) {
  const std::vector<Answer>& expected = one_by_one();  // first: the device serves one engine at a time
  SteadyClock clock;
  const Sizes sizes{.background = true};
  const auto engine = make_engine(make_runner(sizes), engine_options(sizes), clock);
  const std::vector<Request> all = requests(kRequests);
  std::vector<Waiter> waiters(all.size());
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = t; i < all.size(); i += 4) {
        Request request = all[i];
        request.on_event = wait_for(waiters[i]);
        EXPECT_TRUE(engine->submit(std::move(request)).ok());
        engine->stats();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < all.size(); ++i) {
    waiters[i].future.wait();
    expect_same(waiters[i].answer, expected[i], cat("request ", i));
  }
  EXPECT_TRUE(engine->health().ok());
}

Request endless(const std::string& id) {
  Request request;
  request.id = id;
  request.prompt = {1, 2, 3};
  request.sampling.max_tokens = 1'000'000;
  request.sampling.ignore_eos = true;
  request.sampling.logit_bias = {{TestModel::kNanToken, -100.0f}};
  return request;
}

TEST(EngineThread, CancelEndsARequestAndUnknownIdsAreIgnored) {
  SteadyClock clock;
  const auto engine = make_engine(make_runner({}), engine_options({}), clock);
  Waiter waiter;
  Request request = endless("a");
  request.on_event = wait_for(waiter);
  ASSERT_TRUE(engine->submit(std::move(request)).ok());
  engine->cancel("nobody");
  engine->cancel("a");
  waiter.future.wait();
  EXPECT_EQ(waiter.answer.finish, FinishReason::kCancelled);
  engine->cancel("a");
}

TEST(EngineThread, RefusesAtOnceWhatCannotBeServed) {
  SteadyClock clock;
  EngineOptions options = engine_options({});
  options.max_num_seqs = 1;
  options.max_num_queued_requests = 2;
  const auto engine = make_engine(make_runner({}), options, clock);
  std::deque<Waiter> waiters;
  auto submit = [&](Request request) {
    request.on_event = wait_for(waiters.emplace_back());
    return engine->submit(std::move(request));
  };

  Request wrong = endless("long");
  wrong.prompt.assign(TestModel::kMaxLen, 1);
  EXPECT_EQ(submit(wrong).code(), Code::kInvalidArgument);
  wrong.prompt = {TestModel::kVocab};
  EXPECT_EQ(submit(wrong).code(), Code::kInvalidArgument);
  wrong.prompt = {};
  EXPECT_EQ(submit(wrong).code(), Code::kInvalidArgument);
  wrong = endless("logprobs");
  wrong.sampling.logprobs = 6;
  EXPECT_EQ(submit(wrong).code(), Code::kInvalidArgument);
  wrong = endless("bias");
  wrong.sampling.logit_bias = {{-1, 1.0f}};
  EXPECT_EQ(submit(wrong).code(), Code::kInvalidArgument);
  wrong = endless("late");
  wrong.deadline = clock.now() - std::chrono::seconds(1);
  EXPECT_EQ(submit(wrong).code(), Code::kTimedOut);

  ASSERT_TRUE(submit(endless("0")).ok());
  while (engine->stats().running == 0) std::this_thread::yield();
  EXPECT_EQ(submit(endless("0")).code(), Code::kInvalidArgument) << "its id is in use";
  EXPECT_TRUE(submit(endless("1")).ok());
  EXPECT_FALSE(engine->stats().queue_is_full);
  EXPECT_TRUE(submit(endless("2")).ok());
  EXPECT_TRUE(engine->stats().queue_is_full);
  EXPECT_EQ(submit(endless("3")).code(), Code::kResourceExhausted);

  engine->drain(Duration::zero());
  EXPECT_EQ(submit(endless("4")).code(), Code::kUnavailable);
  int64_t cancelled = 0;
  for (const Waiter& waiter : waiters) cancelled += waiter.answer.finish == FinishReason::kCancelled ? 1 : 0;
  EXPECT_EQ(cancelled, 3);
}

TEST(EngineThread, TheQueueIsBoundedInBytes) {
  SteadyClock clock;
  EngineOptions options = engine_options({});
  options.max_num_seqs = 1;
  EXPECT_EQ(options.max_num_queued_requests, INT64_MAX) << "by default nobody is turned away for their number";
  options.max_queue_bytes = 20 << 10;
  // Slow steps: the first request runs for as long as this test takes.
  const auto engine = make_engine(std::make_unique<TimedRunner>(make_runner({})), options, clock);
  std::deque<Waiter> waiters;
  auto submit = [&](Request request) {
    request.on_event = wait_for(waiters.emplace_back());
    return engine->submit(std::move(request));
  };
  ASSERT_TRUE(submit(endless("0")).ok());
  while (engine->stats().running == 0) std::this_thread::yield();
  Request big = endless("big");
  for (int64_t i = 0; i < 10'000; ++i) big.sampling.stop_token_ids.push_back(0);
  EXPECT_TRUE(submit(big).ok()) << "one alone is always taken";
  EXPECT_TRUE(engine->stats().queue_is_full);
  EXPECT_EQ(submit(endless("1")).code(), Code::kResourceExhausted);
  engine->cancel("big");
  waiters[1].future.wait();
  for (const char* id : {"1", "2", "3", "4"}) EXPECT_TRUE(submit(endless(id)).ok()) << id;
  EXPECT_EQ(submit(endless("5")).code(), Code::kResourceExhausted);
  Waiter& second = waiters[4];  // behind "0", "big" and the one refused
  engine->cancel("2");
  second.future.wait();
  EXPECT_TRUE(submit(endless("6")).ok()) << "its bytes came back";
  engine->drain(Duration::zero());
}

TEST(EngineThread, RefusesWhatCannotKeepALatencyTarget) {
  SteadyClock clock;
  const Sizes sizes{.background = true, .targets = {.latency = 2}};
  const auto engine = make_engine(make_runner(sizes), engine_options(sizes), clock);
  auto submit = [&](const std::string& id, Duration ago, Waiter& waiter) {
    Request request = endless(id);
    request.sampling.max_tokens = 2;
    request.arrival = clock.now() - ago;
    request.on_event = wait_for(waiter);
    return engine->submit(std::move(request));
  };
  Waiter waiter;
  const Status late = submit("late", std::chrono::seconds(3), waiter);
  EXPECT_EQ(late.code(), Code::kDeadlineExceeded);
  EXPECT_EQ(late.retry_after_seconds(), 2);
  EXPECT_EQ(late.message().find("too busy"), 0u);
  EXPECT_TRUE(submit("in time", Duration(0), waiter).ok());
  waiter.future.wait();
  EXPECT_EQ(waiter.answer.finish, FinishReason::kLength);
  while (engine->stats().running > 0) std::this_thread::yield();
  EXPECT_EQ(engine->stats().latency_refusals, 1);
  EXPECT_FALSE(engine->stats().step_time_errors.empty());
}

TEST(EngineThread, DeadlineEndsARunningRequest) {
  SteadyClock clock;
  EngineOptions options = engine_options({});
  const auto engine = make_engine(make_runner({}), options, clock);
  Waiter waiter;
  Request request = endless("a");
  request.deadline = clock.now() + std::chrono::milliseconds(50);
  request.on_event = wait_for(waiter);
  const Status status = engine->submit(std::move(request));
  ASSERT_TRUE(status.ok());
  waiter.future.wait();
  // A fast machine may reach the context's end first.
  EXPECT_TRUE(waiter.answer.finish == FinishReason::kLength || waiter.answer.error.code() == Code::kTimedOut);
}

// A device that dies at its second step.
class DyingRunner final : public WrappedRunner {
 public:
  using WrappedRunner::WrappedRunner;
  StepResult wait() override {
    StepResult result = runner_->wait();
    if (++steps_ > 1) result.status = internal_error("the device is gone");
    return result;
  }

 private:
  int64_t steps_ = 0;
};

TEST(EngineThread, DeviceFailureAnswersEverybody) {
  SteadyClock clock;
  const auto engine = make_engine(std::make_unique<DyingRunner>(make_runner({})), engine_options({}), clock);
  std::vector<Waiter> waiters(3);
  for (size_t i = 0; i < waiters.size(); ++i) {
    Request request = endless(std::to_string(i));
    request.on_event = wait_for(waiters[i]);
    if (!engine->submit(std::move(request)).ok()) {  // already dead
      waiters[i].answer.finish = FinishReason::kError;
      waiters[i].answer.error = internal_error("refused");
      waiters[i].ended.set_value();
    }
  }
  for (Waiter& waiter : waiters) {
    waiter.future.wait();
    EXPECT_EQ(waiter.answer.finish, FinishReason::kError);
    EXPECT_EQ(waiter.answer.error.code(), Code::kInternal);
  }
  while (engine->health().ok()) std::this_thread::yield();
  EXPECT_EQ(engine->submit(endless("after")).code(), Code::kUnavailable);
}

// One of two devices dies in the middle of its second step: everybody gets what each gets alone.
TEST(EngineThread, AReplicasDeathCostsNobodyAnAnswer) {
  SteadyClock clock;
  Device other{make_cpu_backend(DType::kBF16, 1), nullptr};
  other.model = TestModel::make(*other.backend, kMaxTokens, kMaxLogits).value();
  const Sizes sizes{.budget = 100, .num_blocks = 100, .background = true};
  EngineOptions options = engine_options(sizes);
  options.step_times = StepTimeModel({{1, 0.001}, {100, 0.002}}, 0, 0);
  options.queue = std::make_shared<RequestQueue>();
  std::vector<std::unique_ptr<Engine>> engines;
  engines.push_back(make_engine(std::make_unique<DyingRunner>(make_runner(sizes)), options, clock));
  engines.push_back(make_engine(make_runner(sizes, other), options, clock));
  Replicas replicas(std::move(engines), clock);
  const std::vector<Request> all = requests(kRequests);
  std::vector<Waiter> waiters(all.size());
  std::vector<std::thread> clients;
  for (size_t client = 0; client < 4; ++client) {
    clients.emplace_back([&, client] {
      for (size_t i = client; i < all.size(); i += 4) {
        Request request = all[i];
        request.arrival = clock.now();
        request.on_event = wait_for(waiters[i]);
        ASSERT_TRUE(replicas.submit(std::move(request)).ok());
      }
    });
  }
  for (std::thread& client : clients) client.join();
  for (size_t i = 0; i < all.size(); ++i) {
    waiters[i].future.wait();
    expect_same(waiters[i].answer, one_by_one()[i], cat("request ", i));
  }
  EXPECT_TRUE(replicas.health().ok());
  EXPECT_FALSE(replicas.replica_health()[0].ok());
  EXPECT_EQ(options.queue->requests, 0);
  EXPECT_EQ(options.queue->bytes, 0);
  Waiter later;
  Request request = endless("later");
  request.on_event = wait_for(later);
  EXPECT_TRUE(replicas.submit(std::move(request)).ok());
  replicas.cancel("later");
  later.future.wait();
  EXPECT_EQ(later.answer.finish, FinishReason::kCancelled);
  replicas.drain(std::chrono::seconds(60));
  EXPECT_EQ(replicas.stats().running, 0);
}

// Memory gives out in the middle of a step, and again where a caller is told of its end.
class ForgetfulRunner final : public WrappedRunner {
 public:
  using WrappedRunner::WrappedRunner;
  StepResult wait() override {
    StepResult result = runner_->wait();
    if (++steps_ == 4) throw std::bad_alloc();
    return result;
  }

 private:
  int64_t steps_ = 0;
};

TEST(EngineThread, OutOfMemoryAnswersEverybody) {
  SteadyClock clock;
  auto engine = make_engine(std::make_unique<ForgetfulRunner>(make_runner({})), engine_options({}), clock);
  std::vector<Waiter> waiters(4);
  std::atomic<int> thrown = 0;
  for (size_t i = 0; i < waiters.size(); ++i) {
    Request request = endless(std::to_string(i));
    request.on_event = [&, sink = wait_for(waiters[i])](RequestEvent&& event) {
      if (event.finish && thrown++ < 2) throw std::bad_alloc();
      sink(std::move(event));
    };
    if (!engine->submit(std::move(request)).ok()) {  // already dead
      waiters[i].answer.finish = FinishReason::kError;
      waiters[i].answer.error = internal_error("refused");
      waiters[i].ended.set_value();
    }
  }
  for (Waiter& waiter : waiters) {
    waiter.future.wait();
    EXPECT_EQ(waiter.answer.finish, FinishReason::kError);
    EXPECT_EQ(waiter.answer.error.code(), Code::kInternal);
  }
  while (engine->health().ok()) std::this_thread::yield();
  EXPECT_EQ(engine->submit(endless("after")).code(), Code::kUnavailable);
  engine->drain(std::chrono::seconds(10));
}

}  // namespace
}  // namespace hearth
