#include "engine/latency_policy.h"

#include <gtest/gtest.h>

namespace hearth {
namespace {

// 10 ms a step, and from 100 tokens on 0.1 ms a token.
const StepTimeModel kModel({{1, 0.010}, {100, 0.010}, {1000, 0.100}}, 0, 0);
constexpr LatencyPolicy::Limits kLimits{.max_tokens = 1000, .max_sequences = 8};

Progress generating(double first_token, int64_t generated, int64_t left) {
  return {.first_token = first_token, .computed = 10, .to_compute = 1, .generated = generated, .output_left = left};
}
Progress prompt(int64_t tokens, int64_t output) { return {.to_compute = tokens, .output_left = output}; }

TEST(LatencyPolicy, BudgetIsFullWhereNobodyGenerates) {
  const LatencyPolicy policy({.tpot = 0.02}, kLimits);
  EXPECT_EQ(policy.token_budget(kModel, {}, 0), 1000);
  EXPECT_EQ(policy.token_budget(kModel, std::vector{prompt(500, 5)}, 0), 1000);
}

TEST(LatencyPolicy, BudgetKeepsTheTimePerToken) {
  const LatencyPolicy policy({.tpot = 0.02}, kLimits);
  // 16 tokens from now on may take 16 x 19 ms (95% of the target).
  EXPECT_NEAR(policy.token_budget(kModel, std::vector{generating(5, 1, 100)}, 5), 190, 1);
  // Ahead by 160 ms: 10 ms more for each of the next 16.
  EXPECT_NEAR(policy.token_budget(kModel, std::vector{generating(4.97, 11, 100)}, 5), 290, 1);
  // Behind: only the generated tokens.
  EXPECT_EQ(policy.token_budget(kModel, std::vector{generating(4.8, 3, 100), generating(4.9, 9, 9)}, 5), 2);
  // Lost: holds up nobody.
  EXPECT_EQ(policy.token_budget(kModel, std::vector{generating(4, 3, 10)}, 5), 1000);
}

TEST(LatencyPolicy, BudgetKeepsTheLatencyButStaysEfficient) {
  const LatencyPolicy policy({.latency = 2}, kLimits);
  auto with_time = [&](double left) {
    Progress one = generating(4, 10, 20);
    one.arrival = 5 + left - 0.95 * 2;
    return policy.token_budget(kModel, std::vector{one}, 5);
  };
  EXPECT_NEAR(with_time(1.6), 800, 1);
  EXPECT_NEAR(with_time(0.6), 300, 1);
  // 100 tokens in 10 ms is as fast as any more: smaller steps would gain nothing for anybody.
  EXPECT_EQ(with_time(0.15), 100);
}

TEST(LatencyPolicy, ForecastPlaysTheQueueOut) {
  const LatencyPolicy policy({.ttft = 1, .latency = 2}, kLimits);
  Outlook outlook;
  outlook.start = 10;
  outlook.cache_room = 1 << 20;
  outlook.running = {prompt(500, 1), generating(9, 5, 3)};
  outlook.waiting = {prompt(1499, 2), prompt(1000, 1)};
  for (auto* list : {&outlook.running, &outlook.waiting}) {
    for (Progress& one : *list) one.arrival = 10;
  }
  const auto fates = policy.forecast(kModel, outlook);
  // Steps of 1000 tokens end at 10.1, 10.2, 10.3: 1 + 500 + 499; 1 + 999 + 0, or as much of the next; ...
  ASSERT_EQ(fates.size(), 4u);
  EXPECT_NEAR(fates[0].used, 0.1, 1e-9);      // first token in the first step
  EXPECT_NEAR(fates[1].used, 0.3 / 2, 1e-9);  // three steps
  EXPECT_NEAR(fates[2].used, 0.3, 1e-9);      // its last prompt token is in the third step
  EXPECT_NEAR(fates[3].used, 0.3102, 2e-2);   // and the other's last ones in a short fourth
}

TEST(LatencyPolicy, ForecastSaysWhenOneEnds) {
  const LatencyPolicy policy({}, kLimits);
  Outlook outlook;
  outlook.start = 10;
  outlook.cache_room = 1 << 20;
  outlook.running = {prompt(500, 1)};
  outlook.waiting = {prompt(1500, 2), prompt(4, 900)};
  const auto fates = policy.forecast(kModel, outlook, 1);
  EXPECT_NEAR(*fates[1].started, 10.0, 1e-9);
  EXPECT_NEAR(*fates[1].end, 10.21, 1e-2);  // two full steps, then one for the second token
  EXPECT_FALSE(fates[2].end);               // not played out
  // What is too far away is estimated: a thousand full steps, then ten tokens.
  outlook.waiting = {prompt(1'000'000, 10)};
  const auto far = policy.forecast(kModel, outlook, 1);
  EXPECT_NEAR(*far[1].end, 10 + 100 + 0.1, 0.2);
}

TEST(LatencyPolicy, ForecastWaitsForRoom) {
  const LatencyPolicy policy({.ttft = 1}, kLimits);
  Outlook outlook;
  outlook.cache_room = 100;
  outlook.running = {generating(0, 1, 50)};
  outlook.running[0].cache_tokens = 100;
  outlook.waiting = {prompt(90, 1), prompt(150, 1)};
  outlook.waiting[0].cache_tokens = 90;
  outlook.waiting[1].cache_tokens = 150;
  const auto fates = policy.forecast(kModel, outlook);
  EXPECT_NEAR(fates[1].used, 0.01, 1e-9);
  EXPECT_NEAR(fates[2].used, 0.50 + 0.015, 1e-9);  // when the first has ended
}

TEST(LatencyPolicy, RefusesWhatWouldBeLateOrMakeOthersLate) {
  const LatencyPolicy policy({.ttft = 1}, kLimits);
  Outlook outlook;
  outlook.cache_room = 1 << 20;
  EXPECT_FALSE(policy.refusal(kModel, outlook, prompt(9000, 1)));
  const auto late = policy.refusal(kModel, outlook, prompt(12000, 1));
  ASSERT_TRUE(late);
  EXPECT_NEAR(*late, 1.2, 1e-9);
  outlook.waiting = {prompt(5000, 1)};
  EXPECT_FALSE(policy.refusal(kModel, outlook, prompt(4000, 1)));
  EXPECT_TRUE(policy.refusal(kModel, outlook, prompt(5500, 1)));

  // It would go first, and the one before it would be late by that.
  Progress urgent = prompt(5500, 1);
  urgent.priority = -1;
  const auto others = policy.refusal(kModel, outlook, urgent);
  ASSERT_TRUE(others);
  EXPECT_EQ(*others, 0);
  // Who is late anyhow refuses nobody.
  outlook.waiting = {prompt(11000, 1)};
  EXPECT_FALSE(policy.refusal(kModel, outlook, urgent));
}

TEST(LatencyPolicy, DueIsWhatTheTargetsLeave) {
  EXPECT_DOUBLE_EQ(LatencyPolicy({.ttft = 1, .latency = 2}, kLimits).due(5, 10, 0.02, {.ttft = 0.25}), 5.25);
  EXPECT_DOUBLE_EQ(LatencyPolicy({.ttft = 1}, kLimits).due(5, 10, 0.02, {.ttft = 3, .latency = 2}), 6.8);
  EXPECT_EQ(LatencyPolicy({.tpot = 1}, kLimits).due(5, 10, 0.02), std::numeric_limits<double>::infinity());
  EXPECT_DOUBLE_EQ(LatencyPolicy({.ttft = 1, .latency = 2}, kLimits).due(5, 10, 0.02), 6);
  EXPECT_DOUBLE_EQ(LatencyPolicy({.ttft = 1, .latency = 2}, kLimits).due(5, 75, 0.02), 5.5);
  EXPECT_DOUBLE_EQ(LatencyPolicy({.ttft = 1, .latency = 2}, kLimits).due(5, 900, 0.02), 5);

  Outlook outlook;
  outlook.waiting = {{.due = 2}, {.due = 4}, {.due = 1, .priority = 1}};
  EXPECT_EQ(outlook.enqueue({.due = 4}), 2u);
  EXPECT_EQ(outlook.enqueue({.due = 1}), 0u);
  EXPECT_EQ(outlook.enqueue({.due = 9, .priority = 1}), 5u);
}

}  // namespace
}  // namespace hearth
