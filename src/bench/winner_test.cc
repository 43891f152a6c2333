#include "bench/winner.h"

#include <gtest/gtest.h>

namespace hearth {
namespace {

TEST(Winner, IsTheLowestAtEachLoadAndNamedWhereItChanges) {
  const std::vector<Series> runs = {{"quick", {{0, 1}, {10, 2}, {20, 4}}}, {"broad", {{0, 2}, {20, 3.5}, {30, 5}}}};
  const Series best = winner(runs);
  ASSERT_EQ(best.points.size(), 5u);
  EXPECT_EQ(best.points[0].y, 1);
  EXPECT_EQ(best.points[1].y, 2);
  EXPECT_NEAR(best.points[2].x, 16, 0.01);  // 2 + 0.2 (x - 10) = 2 + 0.075 x
  EXPECT_NEAR(best.points[2].y, 3.2, 0.01);
  EXPECT_EQ(best.points[3].y, 3.5);
  EXPECT_EQ(best.points[4].y, 5);  // where one has no more points the other goes on
  EXPECT_EQ(best.labels, (std::vector<std::string>{"quick", "", "broad", "", ""}));
}

TEST(Winner, OfNothingIsNothing) {
  EXPECT_TRUE(winner({}).points.empty());
  EXPECT_TRUE(winner({{"empty", {}}}).points.empty());
}

}  // namespace
}  // namespace hearth
