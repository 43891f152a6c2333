// The engine over a model that two or four ranks share: what a request gets does not depend on what runs beside it, to
// the bit, and is what one rank gives to rounding. A rank that fails ends every request.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>

#include "comm/communicator.h"
#include "cpu/cpu_backend.h"
#include "engine/background_runner.h"
#include "engine/engine_core.h"
#include "engine/model_runner.h"
#include "engine/parallel_runner.h"
#include "models/registry.h"
#include "weights/mapped_file.h"
#include "weights/test_files.h"

namespace hearth {
namespace {

constexpr int64_t kVocab = 64, kMaxTokens = 200, kMaxLogits = 60;
constexpr int64_t kRequests = 18;

struct Sizes {
  int64_t budget = kMaxTokens;
  int64_t num_blocks = 64;
  bool prefix_cache = true;
};

// A golden's model with a longer context.
std::string model_folder() {
  static const test::TempFolder folder;
  const std::filesystem::path golden = "tests/golden/models/mixtral_fused";
  for (const char* name : {"config.json", "model.safetensors"}) {
    std::string bytes = read_text_file(golden / name, 1 << 20).value();
    const std::string_view context = "\"max_position_embeddings\": 128";
    if (const size_t at = bytes.find(context); at != bytes.npos) bytes.replace(at + context.size() - 3, 3, "512");
    folder.write(name, bytes);
  }
  return folder.path().string();
}

// One model on so many ranks, loaded once for all tests.
class Ranks {
 public:
  explicit Ranks(int size) : comm_(make_host_communicators(size, std::chrono::seconds(120))) {
    backends_.resize(comm_.size());
    models_.resize(comm_.size());
    const std::string folder = model_folder();
    const Status status = run_ranks(size, [&](int rank) -> Status {
      const auto r = static_cast<size_t>(rank);
      backends_[r] = make_cpu_backend(DType::kF32, 1, size > 1 ? comm_[r] : nullptr);
      const ModelOptions options{.max_tokens = kMaxTokens, .max_logits = kMaxLogits, .max_sequences = 32};
      HEARTH_ASSIGN(LoadedModel loaded, load_model(folder, *backends_[r], options));
      models_[r] = std::move(loaded.model);
      return {};
    });
    EXPECT_TRUE(status.ok()) << status.message();
  }

  std::unique_ptr<Runner> runner(int64_t num_blocks) const {
    ModelRunnerOptions options;
    options.max_tokens = kMaxTokens;
    options.max_sequences = 32;
    options.max_logits = kMaxLogits;
    options.max_logprobs = 5;
    options.num_blocks = num_blocks;
    options.max_edits = 1000;
    std::vector<std::unique_ptr<Runner>> runners;
    for (size_t r = 0; r < models_.size(); ++r) {
      runners.push_back(
          std::make_unique<BackgroundRunner>(make_model_runner(backends_[r], models_[r], options).value()));
    }
    return make_parallel_runner(std::move(runners));
  }
  Communicator& comm(size_t rank) const { return *comm_[rank]; }
  const Model& model() const { return *models_[0]; }

 private:
  std::vector<std::shared_ptr<Communicator>> comm_;
  std::vector<std::shared_ptr<Backend>> backends_;
  std::vector<std::shared_ptr<Model>> models_;
};

const Ranks& ranks(int size) {
  static std::map<int, std::unique_ptr<Ranks>> all;
  auto& out = all[size];
  if (!out) out = std::make_unique<Ranks>(size);
  return *out;
}

struct Answer {
  std::vector<OutputToken> tokens;
  std::vector<std::optional<TokenLogprob>> prompt_logprobs;
  std::optional<FinishReason> finish;
  Status error;
};

// Of all kinds, some with a prefix of more than a block in common, some that grow to the context's end.
std::vector<Request> requests() {
  std::mt19937 random(5);
  auto between = [&](int64_t low, int64_t high) { return low + static_cast<int64_t>(random() % (high - low + 1)); };
  const auto tokens = [&](int64_t n) {
    std::vector<int32_t> out(static_cast<size_t>(n));
    for (int32_t& token : out) token = static_cast<int32_t>(between(0, kVocab - 1));
    return out;
  };
  const std::vector<int32_t> shared = tokens(80);
  std::vector<Request> out(kRequests);
  for (size_t i = 0; i < out.size(); ++i) {
    Request& request = out[i];
    request.id = std::to_string(i);
    if (i % 3 == 0) request.prompt = shared;
    const auto rest = tokens(between(1, 30));
    request.prompt.insert(request.prompt.end(), rest.begin(), rest.end());
    SamplingParams& sampling = request.sampling;
    sampling.seed = i;
    sampling.temperature = i % 2 == 0 ? 0.0f : 1.0f;
    sampling.max_tokens = i % 3 == 2 ? 140 : between(1, 15);
    if (i % 4 == 1) sampling.top_p = 0.9f;
    if (i % 5 == 1) sampling.top_k = 20;
    if (i % 5 == 3) sampling.repetition_penalty = 1.2f;
    if (i % 4 == 0) sampling.logprobs = static_cast<int32_t>(between(0, 5));
    if (i % 8 == 2) sampling.prompt_logprobs = 2;
    sampling.ignore_eos = true;
  }
  return out;
}

struct Outcome {
  std::vector<Answer> answers;
  EngineStats stats;
};

Outcome answer(std::unique_ptr<Runner> runner, const Sizes& sizes, bool one_by_one) {
  EngineOptions options;
  options.max_num_seqs = 16;
  options.max_num_batched_tokens = sizes.budget;
  options.max_logprobs = 5;
  options.prefix_cache = sizes.prefix_cache;
  SteadyClock clock;
  EngineCore core(std::move(runner), options, clock);
  Outcome out;
  out.answers.resize(kRequests);
  const std::vector<Request> all = requests();
  for (size_t i = 0; i < all.size(); ++i) {
    Request request = all[i];
    request.on_event = [&answer = out.answers[i]](RequestEvent&& event) {
      answer.tokens.insert(answer.tokens.end(), event.tokens.begin(), event.tokens.end());
      if (!event.prompt_logprobs.empty()) answer.prompt_logprobs = std::move(event.prompt_logprobs);
      answer.finish = event.finish;
      answer.error = std::move(event.error);
    };
    EXPECT_TRUE(core.scheduler().accept(request, clock.now()).ok());
    core.scheduler().add(std::move(request));
    while (one_by_one && core.scheduler().has_work()) EXPECT_TRUE(core.step().ok());
  }
  while (core.scheduler().has_work() && core.step().ok()) core.scheduler().check_integrity();
  out.stats = core.scheduler().stats();
  return out;
}

class EngineRanks : public testing::TestWithParam<int> {};

TEST_P(EngineRanks, SameBitsInAnyBatchAndChunking) {
  const Ranks& device = ranks(GetParam());
  const auto alone = answer(device.runner(64), {.prefix_cache = false}, true).answers;
  for (const Sizes& sizes : {Sizes{}, Sizes{.budget = 23}, Sizes{.budget = 70, .num_blocks = 8},
                             Sizes{.budget = 70, .num_blocks = 8, .prefix_cache = false}}) {
    const Outcome together = answer(device.runner(sizes.num_blocks), sizes, false);
    EXPECT_EQ(together.stats.preemptions > 0, sizes.num_blocks == 8);
    EXPECT_EQ(together.stats.prefix_hits > 0, sizes.prefix_cache);
    for (size_t i = 0; i < alone.size(); ++i) {
      const Answer &a = together.answers[i], &b = alone[i];
      EXPECT_TRUE(a.error.ok()) << a.error.message();
      EXPECT_TRUE(a.tokens == b.tokens) << "request " << i << ", budget " << sizes.budget;
      EXPECT_TRUE(a.prompt_logprobs == b.prompt_logprobs) << "request " << i;
      EXPECT_EQ(a.finish, b.finish);
    }
  }
}

TEST_P(EngineRanks, LogProbabilitiesAreThoseOfOneRankToRounding) {
  const auto one = answer(ranks(1).runner(64), {}, true).answers;
  const auto several = answer(ranks(GetParam()).runner(64), {}, true).answers;
  int compared = 0;
  for (size_t i = 0; i < one.size(); ++i) {
    for (size_t t = 1; t < one[i].prompt_logprobs.size(); ++t) {
      EXPECT_NEAR(several[i].prompt_logprobs[t]->logprob, one[i].prompt_logprobs[t]->logprob, 1e-4);
      ++compared;
    }
  }
  EXPECT_GT(compared, 30);
}

TEST_P(EngineRanks, ARankHasItsPartOfTheCache) {
  EXPECT_EQ(ranks(1).model().kv_specs()[0].kv_heads, 2);
  EXPECT_EQ(ranks(GetParam()).model().kv_specs()[0].kv_heads, 1);
}

// In the middle of the work; the engine's core ends with the failure, and every request with an error.
TEST_P(EngineRanks, ARankThatFailsEndsEveryRequest) {
  const Ranks device(GetParam());
  class FailsLater final : public Runner {
   public:
    FailsLater(std::unique_ptr<Runner> runner, Communicator& comm) : runner_(std::move(runner)), comm_(comm) {}
    RunnerLimits limits() const override { return runner_->limits(); }
    void submit(const StepPlan& plan) override {
      if (++steps_ == 5) comm_.fail(internal_error("rank 1 lost its device"));
      runner_->submit(plan);
    }
    StepResult wait() override { return runner_->wait(); }

   private:
    std::unique_ptr<Runner> runner_;
    Communicator& comm_;
    int steps_ = 0;
  };
  const Outcome out = answer(std::make_unique<FailsLater>(device.runner(64), device.comm(1)), {.budget = 40}, false);
  int failed = 0;
  for (const Answer& a : out.answers) {
    ASSERT_TRUE(a.finish.has_value());
    if (a.finish != FinishReason::kError) continue;
    EXPECT_EQ(a.error.code(), Code::kInternal);
    ++failed;
  }
  EXPECT_GT(failed, 10);
}

INSTANTIATE_TEST_SUITE_P(All, EngineRanks, testing::Values(2, 4));

// Gives a fixed result for every step.
class FixedRunner final : public Runner {
 public:
  explicit FixedRunner(StepResult result) : result_(std::move(result)) {}
  RunnerLimits limits() const override { return {}; }
  void submit(const StepPlan&) override { ++in_flight_; }
  StepResult wait() override {
    EXPECT_EQ(in_flight_--, 1);
    return result_;
  }

 private:
  const StepResult result_;
  int in_flight_ = 0;
};

StepResult merged(StepResult first, StepResult second) {
  std::vector<std::unique_ptr<Runner>> runners;
  runners.push_back(std::make_unique<FixedRunner>(std::move(first)));
  runners.push_back(std::make_unique<FixedRunner>(std::move(second)));
  const auto runner = make_parallel_runner(std::move(runners));
  const StepPlan plan;
  runner->submit(plan);
  return runner->wait();
}

TEST(ParallelRunner, AStepFailsWhenARankDoes) {
  const StepResult good{.tokens = {1, 2}}, bad{.status = internal_error("no device")};
  EXPECT_TRUE(merged(good, good).status.ok());
  EXPECT_EQ(merged(good, good).tokens, good.tokens);
  EXPECT_EQ(merged(good, bad).status.message(), "no device");
  EXPECT_EQ(merged(bad, good).status.message(), "no device");
  const std::string other = "rank 1 drew other tokens than the first, or with other log-probabilities";
  EXPECT_EQ(merged(good, {.tokens = {1, 3}}).status.message(), other);
  const StepResult likely{.tokens = {1, 2}, .logprobs = {-0.5f, std::nanf("")}};
  EXPECT_TRUE(merged(likely, likely).status.ok());
  EXPECT_EQ(merged(likely, {.tokens = {1, 2}, .logprobs = {-0.25f, std::nanf("")}}).status.message(), other);
}

}  // namespace
}  // namespace hearth
