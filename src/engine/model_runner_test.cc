#include "engine/model_runner.h"

#include <gtest/gtest.h>

#include <set>

#include "cpu/cpu_backend.h"
#include "engine/forwarding_backend.h"
#include "engine/test_model.h"

namespace hearth {
namespace {

constexpr int64_t kMaxTokens = 64;

// A backend that remembers which steps it was asked to keep, and has room for so many blocks of prompts.
class RememberingBackend final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  void run(int64_t key, const std::function<void()>& record) override {
    last = key;
    keys.insert(key);
    record();
  }
  int64_t last = -1;
  std::set<int64_t> keys;

  // Zeros: the CPU's ops compute the rows that fill a bucket too, with whatever token stands there.
  Result<Tensor> allocate(std::string_view what, DType dtype, Shape shape) override {
    HEARTH_ASSIGN(Tensor out, ForwardingBackend::allocate(what, dtype, shape));
    zero(out);
    return out;
  }
  int64_t max_prompt_blocks() const override { return 17; }
};

// `sequences` with a token each at position `start` of prompts of 5, or one sequence with all of them.
StepPlan plan_of(int64_t step, int64_t sequences, int32_t start, int32_t tokens_each) {
  StepPlan plan;
  plan.step = step;
  for (int32_t s = 0; s < sequences; ++s) {
    StepSequence part;
    part.sequence = s;
    part.start = start, part.prompt_len = 5;
    part.first_token = s * tokens_each, part.num_tokens = tokens_each;
    part.first_block = s, part.num_blocks = 1;
    part.first_row = s, part.num_rows = 1;
    plan.sequences.push_back(part);
    plan.block_ids.push_back(s);
    plan.logit_rows.push_back((s + 1) * tokens_each - 1);
    plan.rows.push_back({.temperature = 0});
    plan.edit_starts.push_back(0);
  }
  plan.token_ids.assign(static_cast<size_t>(sequences * tokens_each), 1);
  return plan;
}

// Ten sequences stand between two buckets. Sixteen generated tokens of one sequence are what a preempted one computes
// again.
TEST(ModelRunner, EveryStepsGraphIsPrepared) {
  const std::shared_ptr<Backend> cpu = make_cpu_backend(DType::kBF16, 1);
  const std::shared_ptr<Model> model = TestModel::make(*cpu, kMaxTokens, 32).value();
  const auto backend = std::make_shared<RememberingBackend>(cpu);
  ModelRunnerOptions options;
  options.max_tokens = kMaxTokens;
  options.max_sequences = 10;
  options.max_logits = 32;
  options.num_blocks = 16;
  options.max_edits = TestModel::kVocab;
  options.token_buckets = {1, 8, 12, 32, kMaxTokens};
  const std::unique_ptr<Runner> runner = make_model_runner(backend, model, options).value();
  ASSERT_TRUE(runner->prepare().ok());
  const std::set<int64_t> prepared = backend->keys;
  EXPECT_EQ(prepared.size(), 5u + 3u);

  int64_t step = 0;
  const auto key_of = [&](int64_t sequences, int32_t start, int32_t tokens_each) {
    const StepPlan plan = plan_of(step++, sequences, start, tokens_each);
    runner->submit(plan);
    runner->wait();
    return backend->last;
  };
  const int64_t generated = key_of(10, 5, 1), prompt = key_of(10, 4, 1);
  EXPECT_NE(generated, prompt);
  EXPECT_EQ(key_of(9, 20, 1), generated);  // the same bucket
  key_of(1, 5, 16);
  key_of(1, 0, 40);
  EXPECT_EQ(backend->keys, prepared);
}

TEST(ModelRunner, LimitsPromptsToWhatTheBackendHolds) {
  const std::shared_ptr<Backend> cpu = make_cpu_backend(DType::kF32, 1);
  const std::shared_ptr<Model> model = TestModel::make(*cpu, kMaxTokens, 32).value();
  ModelRunnerOptions options;
  options.num_blocks = 4;
  EXPECT_EQ(make_model_runner(cpu, model, options).value()->limits().max_prompt_blocks, 0);
  const auto narrow = std::make_shared<RememberingBackend>(cpu);
  EXPECT_EQ(make_model_runner(narrow, model, options).value()->limits().max_prompt_blocks, 17);
}

TEST(StepPlan, CountsTheBlocksOfPrompts) {
  StepPlan plan;
  for (const int32_t prompt_len : {50, 60, 61, 64, 65, 70, 1000}) {
    plan.sequences.push_back({.start = 60, .prompt_len = prompt_len, .num_tokens = 10});
  }
  EXPECT_EQ(plan.prompt_blocks(64), 0 + 0 + 1 + 1 + 2 + 2 + 2);
}

}  // namespace
}  // namespace hearth
