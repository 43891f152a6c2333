// The plan against what was measured, and what must hold of any plan.
#include "sim/plan.h"

#include <gtest/gtest.h>

namespace hearth {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

PlanOptions options_for(const std::string& gpu, int64_t experts_per_token = 2) {
  PlanOptions out;
  out.shape = StepTables::built_in().shapes().at("mixtral-8x7b");
  out.shape.experts_per_token = experts_per_token;
  out.gpu = gpu;
  out.gpus = 1;
  out.seeds = 2;
  return out;
}

double rate_at(const PlanOptions& options, const std::string& precision, double latency) {
  const PlanRow row{.precision = precision, .step_tokens = 1024};
  double low = 0, high = 60;
  while (high - low > 0.2) {
    const double middle = (low + high) / 2;
    (plan_load(options, row, middle, {}).latency.p50 <= latency ? low : high) = middle;
  }
  return low;
}

// docs/performance.md and docs/history/performance-2026-11.md: requests/s at a median total latency, 1,000 tokens in
// and 50 out, steps of 1,024 tokens. What they do not state is read between the loads of bench/results/.
struct Measured {
  const char* gpu;
  const char* precision;
  int64_t experts_per_token;
  double latency, rate;
};
void PrintTo(const Measured& m, std::ostream* out) {
  *out << m.gpu << ", " << m.precision << ", " << m.experts_per_token << " experts, " << m.latency << " s";
}

class PlanAgainstMeasured : public ::testing::TestWithParam<Measured> {};

TEST_P(PlanAgainstMeasured, IsWithinTenPercent) {
  if (kSanitized) GTEST_SKIP() << "too slow for statistics";
  const Measured& m = GetParam();
  const double planned = rate_at(options_for(m.gpu, m.experts_per_token), m.precision, m.latency);
  EXPECT_NEAR(planned / m.rate, 1, 0.1) << planned << " requests/s planned, " << m.rate << " measured";
}

INSTANTIATE_TEST_SUITE_P(Runs, PlanAgainstMeasured,
                         ::testing::Values(Measured{"h200", "fp8", 2, 1.2, 28.3}, Measured{"h200", "fp8", 2, 1.6, 32.4},
                                           Measured{"h200", "fp8", 2, 2.0, 36.2}, Measured{"h100", "fp8", 2, 1.2, 22.9},
                                           Measured{"h100", "fp8", 2, 1.6, 30.9}, Measured{"h100", "fp8", 2, 2.0, 32.7},
                                           // From kernels' times, and from shares: no steps of these were measured.
                                           Measured{"h200", "bf16", 2, 1.6, 12.1},
                                           Measured{"h200", "bf16", 2, 2.0, 14.9},
                                           Measured{"h200", "fp8", 3, 1.2, 17.8}));

TEST(StepTables, GiveBackWhatWasMeasured) {
  const StepTables& tables = StepTables::built_in();
  const auto mixtral = tables.times("h200", tables.shapes().at("mixtral-8x7b"), "fp8", 1, 1024);
  EXPECT_TRUE(mixtral.measured);
  const auto ms = [](const StepTables::Times& times, int64_t prompt, int64_t decodes) {
    StepWork work;
    for (int64_t i = 0; i < decodes; ++i) work.add(1000, 1);
    if (prompt > 0) work.add(0, prompt);
    return seconds(times.step(work)) * 1e3;
  };
  EXPECT_NEAR(ms(mixtral, 0, 1), 4.02, 0.05);
  EXPECT_NEAR(ms(mixtral, 0, 64), 13.01, 0.05);
  EXPECT_NEAR(ms(mixtral, 974, 50), 29.15, 0.05);
  const auto qwen = tables.times("h200", tables.shapes().at("qwen3-30b-a3b"), "fp8", 1, 4096);
  EXPECT_TRUE(qwen.measured);
  EXPECT_NEAR(ms(qwen, 0, 64), 9.685, 0.05);
  // What was not measured is said to be estimated, and is what the floors let one expect.
  const auto two = tables.times("h200", tables.shapes().at("mixtral-8x7b"), "fp8", 2, 1024);
  EXPECT_FALSE(two.measured);
  EXPECT_LT(ms(two, 0, 64), ms(mixtral, 0, 64));
  EXPECT_GT(ms(two, 0, 64), ms(mixtral, 0, 64) / 2);
}

TEST(StepTables, EstimatesAreNearWhatOtherBoardsTook) {
  // As if the H100's table were not there: its shares from the H200's would give this.
  const StepTables& tables = StepTables::built_in();
  PlanShape other = tables.shapes().at("mixtral-8x7b");
  other.vocab -= 1;  // another shape, a hair's breadth away
  const auto estimated = tables.times("h100", other, "fp8", 1, 1024);
  const auto measured = tables.times("h100", tables.shapes().at("mixtral-8x7b"), "fp8", 1, 1024);
  EXPECT_FALSE(estimated.measured);
  for (const double tokens : {1., 8., 64., 256., 512., 1024.}) {
    EXPECT_NEAR(seconds(estimated.step({.tokens = tokens})) / seconds(measured.step({.tokens = tokens})), 1, 0.1)
        << tokens;
  }
}

TEST(StepTables, RefuseWhatIsNone) {
  EXPECT_FALSE(StepTables::parse("{}").ok());
  EXPECT_FALSE(StepTables::parse("{\"gpus\": 1}").ok());
  EXPECT_FALSE(StepTables::parse("").ok());
}

TEST(Plan, KnowsWhatFits) {
  const StepTables& tables = StepTables::built_in();
  const PlanShape& mixtral = tables.shapes().at("mixtral-8x7b");
  EXPECT_LT(tables.cache_tokens("h100", mixtral, "bf16", 1), 0) << "93 GB on 80";
  EXPECT_GT(tables.cache_tokens("h100", mixtral, "bf16", 2), 100'000);
  EXPECT_GT(tables.cache_tokens("h100", mixtral, "fp8", 1), 100'000);
  EXPECT_LT(tables.cache_tokens("h200", tables.shapes().at("qwen3-235b-a22b"), "fp8", 1), 0);
}

TEST(Plan, MoreGpusServeMore) {
  PlanOptions options = options_for("h100");
  options.seeds = 1;
  options.warm_up = 3, options.seconds = 6;
  options.precisions = {"fp8"};
  options.step_tokens = {1024};
  const auto one = make_plan(options);
  ASSERT_EQ(one.size(), 1u);
  ASSERT_TRUE(one[0].fits);
  EXPECT_NEAR(one[0].alone, 0.282, 0.03);  // measured: 0.282 s
  EXPECT_GT(one[0].kept, 0.6 * one[0].at_median);
  EXPECT_EQ(one[0].curve.size(), 8u);
  options.gpus = 4;
  const auto four = make_plan(options);
  ASSERT_EQ(four.size(), 3u);  // 1 x 4, 2 x 2, 4 x 1
  EXPECT_NEAR(four[0].at_median / one[0].at_median, 4, 0.2);
  EXPECT_LT(four[2].alone, one[0].alone);
  EXPECT_EQ(best_row(four)->tensor_parallel, 1);
  // A target that one GPU cannot keep at all.
  options.target_latency = 0.2;
  const auto fast = make_plan(options);
  EXPECT_EQ(fast[0].at_median, 0);
  ASSERT_NE(best_row(fast), nullptr);
  EXPECT_GT(best_row(fast)->tensor_parallel, 1);
}

}  // namespace
}  // namespace hearth
