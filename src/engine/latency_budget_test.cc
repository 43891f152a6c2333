#include "engine/latency_budget.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace hearth {
namespace {

constexpr TimePoint at(double seconds) { return TimePoint(static_cast<int64_t>(seconds * 1e9)); }

Request request_at(double arrival) {
  Request request;
  request.prompt = {1, 2, 3};
  request.sampling.max_tokens = 2;
  request.sampling.ignore_eos = true;
  request.arrival = at(arrival);
  return request;
}

TEST(LatencyBudget, AWrongForecastDoesNotShutTheDoorForGood) {
  // Steps of 9 s: no request could end within 1 s.
  LatencyBudget budget({.latency = 1}, {.max_tokens = 100, .max_sequences = 8}, StepTimeModel({{1, 9}}, 0, 0));
  EXPECT_TRUE(budget.accept(request_at(5), 2, at(5)).ok());  // a trial
  const Status busy = budget.accept(request_at(5), 2, at(5));
  EXPECT_EQ(busy.code(), Code::kDeadlineExceeded);
  EXPECT_EQ(busy.retry_after_seconds(), 1);  // and not 18
  budget.joined();
  budget.publish({}, at(6));
  EXPECT_FALSE(budget.accept(request_at(7), 2, at(7)).ok());
  EXPECT_TRUE(budget.accept(request_at(16), 2, at(16)).ok());
  EXPECT_EQ(budget.refused(), 2);
}

TEST(LatencyBudget, CountsWhoWasAcceptedBeforeTheEngineKnowsThem) {
  // A step of 100 tokens takes 0.1 s.
  LatencyBudget budget({.ttft = 0.4}, {.max_tokens = 100, .max_sequences = 8},
                       StepTimeModel({{1, 0.001}, {100, 0.1}}, 0, 0));
  Request request = request_at(0);
  request.prompt.assign(100, 1);
  int accepted = 0;
  while (accepted < 10 && budget.accept(request, 1, at(0)).ok()) ++accepted;
  EXPECT_EQ(accepted, 3);  // the fourth would have its first token at 0.4 s, above 95% of that
  budget.joined();
  budget.publish({}, at(0));  // one has joined, and ended
  EXPECT_TRUE(budget.accept(request, 1, at(0)).ok());
}

// Without targets of the server's own.
TEST(LatencyBudget, KeepsWhatARequestBrings) {
  LatencyBudget budget({}, {.max_tokens = 100, .max_sequences = 8}, StepTimeModel({{1, 0.001}, {100, 0.1}}, 0, 0));
  Request request = request_at(0);
  request.prompt.assign(100, 1);
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(budget.accept(request, 1, at(0)).ok());  // 0.5 s of work
  request.targets.ttft = 0.3;
  EXPECT_TRUE(budget.accept(request, 1, at(0)).ok());  // it goes before those that wait for nothing
  request.targets.ttft = 0.09;
  const Status busy = budget.accept(request, 1, at(0));
  EXPECT_EQ(busy.code(), Code::kDeadlineExceeded);
  EXPECT_EQ(busy.message().find("too busy"), 0u);
  request.targets = {};
  request.deadline = at(0.05);  // no step is so short
  EXPECT_EQ(budget.accept(request, 1, at(0)).code(), Code::kDeadlineExceeded);
  request.deadline = at(5);
  EXPECT_TRUE(budget.accept(request, 1, at(0)).ok());
}

// The engine's thread publishes after every step.
TEST(LatencyBudget, AForecastHoldsNobodyUp) {
  LatencyBudget budget({.ttft = 1e9}, {.max_tokens = 8192, .max_sequences = 4096},
                       StepTimeModel({{1, 0.001}, {8192, 0.1}}, 0, 0));
  Outlook outlook;
  for (int i = 0; i < 200'000; ++i) {
    Progress waiting;
    waiting.to_compute = 100 + i % 100, waiting.output_left = 200 + i % 100;
    outlook.waiting.push_back(waiting);
  }
  budget.publish(outlook, at(0));
  const auto now = [] { return std::chrono::steady_clock::now(); };
  const auto began = now();
  ASSERT_TRUE(budget.accept(request_at(0), 2, at(0)).ok());
  const auto alone = now() - began;

  std::atomic<bool> forecasts = false;
  std::thread newcomer([&] {
    forecasts = true;
    EXPECT_TRUE(budget.accept(request_at(0), 2, at(0)).ok());
  });
  while (!forecasts) std::this_thread::yield();
  std::this_thread::sleep_for(alone / 4);  // well inside the forecast
  const auto published = now();
  budget.publish({}, at(1));
  EXPECT_LT(now() - published, alone / 4);
  newcomer.join();
}

TEST(LatencyBudget, LearnsHowLongAnswersAre) {
  LatencyBudget budget({.latency = 1}, {.max_tokens = 100, .max_sequences = 8}, StepTimeModel({{1, 0.01}}, 0, 0));
  SamplingParams sampling;
  EXPECT_EQ(budget.expected_output(sampling, 0, 10), 10);
  for (int i = 0; i < 2000; ++i) budget.ended(i % 100, true);
  EXPECT_NEAR(budget.expected_output(sampling, 0, 10'000), 90, 15);
  EXPECT_EQ(budget.expected_output(sampling, 500, 10'000), 1);
  sampling.ignore_eos = true;
  EXPECT_EQ(budget.expected_output(sampling, 10, 10'000), 9'990);
}

}  // namespace
}  // namespace hearth
