#include "engine/step_pacer.h"

#include <gtest/gtest.h>

namespace hearth {
namespace {

TEST(StepPacer, LeavesAShareOfTheShortestStep) {
  StepPacer pacer;
  EXPECT_EQ(pacer.patience(500), 0);  // nothing is known
  pacer.observe(500, 0.020, false);
  EXPECT_NEAR(pacer.patience(500), 0.016, 1e-9);
  EXPECT_NEAR(pacer.patience(510), 0.016, 1e-9);  // about as many
  EXPECT_EQ(pacer.patience(1000), 0);
  pacer.observe(500, 0.030, false);  // one that took longer says little
  EXPECT_NEAR(pacer.patience(500), 0.016, 0.0005);
  pacer.observe(500, 0.010, false);
  EXPECT_NEAR(pacer.patience(500), 0.0075, 1e-9);
}

TEST(StepPacer, FollowsStepsThatGetLonger) {
  StepPacer pacer;
  pacer.observe(64, 0.010, false);
  for (int i = 0; i < 200; ++i) pacer.observe(64, 0.040, false);
  EXPECT_NEAR(pacer.patience(64), 0.033, 1e-9);
}

TEST(StepPacer, ShortStepsAreNotWaitedFor) {
  StepPacer pacer;
  pacer.observe(1, 0.005, false);
  EXPECT_EQ(pacer.patience(1), 0);
}

TEST(StepPacer, ComesEarlierWhereItWasLate) {
  StepPacer pacer;
  pacer.observe(100, 0.020, false);
  const double before = pacer.patience(100);
  pacer.observe(100, 0.020, true);
  EXPECT_NEAR(pacer.patience(100), 0.013, 1e-9);
  for (int i = 0; i < 3; ++i) pacer.observe(100, 0.020, true);
  EXPECT_EQ(pacer.patience(100), 0);
  for (int i = 0; i < 1000; ++i) pacer.observe(100, 0.020, false);
  EXPECT_NEAR(pacer.patience(100), before, 1e-9);
}

}  // namespace
}  // namespace hearth
