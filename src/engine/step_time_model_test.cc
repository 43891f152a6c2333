#include "engine/step_time_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>

namespace hearth {
namespace {

StepTimeModel small_model() { return StepTimeModel({{1, 0.004}, {100, 0.010}, {1000, 0.020}}, 1e-7, 1e-9); }

TEST(StepTimeModel, InterpolatesAndAddsAttention) {
  const StepTimeModel model = small_model();
  EXPECT_DOUBLE_EQ(model.predict({.tokens = 1}), 0.004);
  EXPECT_DOUBLE_EQ(model.predict({.tokens = 550}), 0.015);
  EXPECT_DOUBLE_EQ(model.predict({.tokens = 5000}), 0.020);
  EXPECT_DOUBLE_EQ(model.predict({.tokens = 100, .context_tokens = 1e4, .prompt_pairs = 1e6}), 0.012);
}

TEST(StepTimeModel, CountsWhatAttentionReadsAndComputes) {
  StepWork work;
  work.add(1000, 1);  // reads its own key too
  EXPECT_DOUBLE_EQ(work.context_tokens, 1001);
  work.add(100, 4);  // see 101, 102, 103 and 104
  EXPECT_DOUBLE_EQ(work.prompt_pairs, 410);
  EXPECT_DOUBLE_EQ(work.tokens, 5);
}

TEST(StepTimeModel, ATimeNeverFallsWithMoreTokens) {
  const StepTimeModel model({{1, 0.005}, {10, 0.004}, {100, 0.006}}, 0, 0);
  EXPECT_DOUBLE_EQ(model.predict({.tokens = 10}), 0.005);
}

StepWork random_work(std::mt19937_64& random) {
  StepWork work;
  for (uint64_t decodes = random() % 60 + 1; decodes > 0; --decodes) work.add(static_cast<int64_t>(random() % 2000), 1);
  if (random() % 2 == 0) work.add(static_cast<int64_t>(random() % 1000), static_cast<int64_t>(random() % 900 + 2));
  return work;
}

// Mean relative error of the last of many steps on a device that takes `truth`.
double error_after(StepTimeModel& model, int steps,
                   const std::function<double(const StepWork&, std::mt19937_64&)>& truth,
                   const std::function<double(const StepWork&)>& noiseless) {
  std::mt19937_64 random(7);
  for (int i = 0; i < steps; ++i) {
    const StepWork work = random_work(random);
    model.observe(work, truth(work, random));
  }
  double sum = 0;
  for (int i = 0; i < 200; ++i) {
    const StepWork work = random_work(random);
    sum += std::abs(model.predict(work) / noiseless(work) - 1);
  }
  return sum / 200;
}

double device(const StepWork& work) {
  return std::max(0.006 + 0.009 * (1 - std::pow(0.75, work.tokens)), 20e-6 * work.tokens) + 6e-8 * work.context_tokens +
         2e-9 * work.prompt_pairs;
}

// Three knots cannot follow the device's curve everywhere: what remains is that.
TEST(StepTimeModel, LearnsAnotherDevice) {
  auto truth = [](const StepWork& work, std::mt19937_64&) { return device(work); };
  StepTimeModel untaught = small_model(), taught = small_model();
  EXPECT_GT(error_after(untaught, 0, truth, device), 0.2);
  EXPECT_LT(error_after(taught, 1000, truth, device), 0.06);
}

TEST(StepTimeModel, OutliersAndNoiseHardlyMoveIt) {
  StepTimeModel model = small_model();
  auto noisy = [](const StepWork& work, std::mt19937_64& random) {
    const double noise = std::normal_distribution(1.0, 0.05)(random);
    return device(work) * (random() % 50 == 0 ? 20.0 : noise);
  };
  EXPECT_LT(error_after(model, 2000, noisy, device), 0.07);
}

TEST(StepTimeModel, FollowsADeviceThatSlowsDown) {
  StepTimeModel model = small_model();
  auto slow = [](const StepWork& work) { return 1.6 * device(work); };
  error_after(
      model, 1000, [](auto& work, auto&) { return device(work); }, device);
  EXPECT_LT(error_after(
                model, 150, [&](auto& work, auto&) { return slow(work); }, slow),
            0.08);
}

TEST(StepTimeModel, NonsenseIsIgnored) {
  StepTimeModel model = small_model();
  model.observe({.tokens = 10}, 0);
  model.observe({.tokens = 10}, -1);
  model.observe({.tokens = 10}, NAN);
  EXPECT_DOUBLE_EQ(model.predict({.tokens = 1}), 0.004);
  for (int i = 0; i < 100; ++i) model.observe({.tokens = 50, .context_tokens = 100}, 1e-9);
  EXPECT_GT(model.predict({.tokens = 50}), 0);
}

}  // namespace
}  // namespace hearth
