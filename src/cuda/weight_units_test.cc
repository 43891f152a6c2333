#include "cuda/weight_units.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace hearth::cuda {
namespace {

// A row as load_rows stores it.
std::vector<float> in_units(const std::vector<float>& row) {
  const float unit = weight_unit(norm_squared(row.data(), std::ssize(row)));
  std::vector<float> out;
  for (const float value : row) out.push_back(to_float(to_e4m3(value / unit)));
  return out;
}

// The largest sum of kSumLength products from any multiple of kNormLength on, with the worst x there can be.
double largest_sum(const std::vector<float>& weights) {
  double most = 0;
  for (size_t begin = 0; begin < weights.size(); begin += kNormLength) {
    double sum = 0;
    for (size_t i = begin; i < std::min(weights.size(), begin + kSumLength); ++i)
      sum += std::abs(double{weights[i]}) * kRowE4M3Max;
    most = std::max(most, sum);
  }
  return most;
}

constexpr double kF16Max = 65504;

TEST(WeightUnits, NoSumOverflowsFloat16) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  const auto row = [&](const auto& value) {
    std::vector<float> out(4096);
    for (size_t i = 0; i < out.size(); ++i) out[i] = value(i);
    return out;
  };
  const std::vector<std::vector<float>> rows = {
      row([](size_t) { return 448.0f; }),                         // the bound itself
      row([](size_t i) { return i / 512 % 2 ? 448.0f : 1.0f; }),  // half of every window
      row([](size_t i) { return i == 700 ? 448.0f : 0.0f; }),     // one weight
      row([](size_t i) { return i == 700 ? 448.0f : 0.02f; }),    // one that outweighs the others
      row([&](size_t) { return 100 * normal(random); }),          // as rows are
      row([&](size_t) { return 1e-2f * normal(random); }),        // small ones are enlarged
      row([&](size_t) { return 27.0f + normal(random); }),        // nearly equal: rounded up together
      row([](size_t) { return 0.0f; })};
  for (size_t i = 0; i < rows.size(); ++i) EXPECT_LE(largest_sum(in_units(rows[i])), kF16Max) << "row " << i;
  EXPECT_GT(largest_sum(in_units(rows[0])), kF16Max / 4);  // and the range is used
}

// What e4m3 loses of an evenly spread row for its unit.
TEST(WeightUnits, LittleIsLost) {
  std::mt19937 random(8);
  std::normal_distribution<float> normal;
  double lost = 0, lost_at_448 = 0, norm = 0;
  for (int repeat = 0; repeat < 20; ++repeat) {
    std::vector<float> exact(4096);
    const float size = 80 + 4 * static_cast<float>(repeat);  // over an octave, for units are powers of two
    for (float& value : exact) value = size * normal(random);
    const std::vector<float> stored = in_units(exact);
    // The unit, from the largest.
    const auto most = [](const std::vector<float>& values) { return *std::max_element(values.begin(), values.end()); };
    const float unit = std::exp2(std::round(std::log2(most(exact) / most(stored))));
    for (size_t i = 0; i < exact.size(); ++i) {
      lost += std::pow(stored[i] * unit - exact[i], 2), norm += std::pow(exact[i], 2);
      lost_at_448 += std::pow(to_float(to_e4m3(exact[i])) - exact[i], 2);
    }
  }
  EXPECT_LT(std::sqrt(lost / norm), 0.03);
  EXPECT_LT(lost, 1.01 * lost_at_448);
}

TEST(WeightUnits, ArePowersOfTwo) {
  for (const float norm : {1e-20f, 0.5f, 1.0f, 3.0f, 1e6f, 5e6f, 1e20f}) {
    int exponent;
    EXPECT_EQ(std::frexp(weight_unit(norm), &exponent), 0.5f) << norm;
  }
  for (const float odd : {0.0f, INFINITY, NAN, -1.0f}) EXPECT_EQ(weight_unit(odd), 1.0f) << odd;
}

}  // namespace
}  // namespace hearth::cuda
