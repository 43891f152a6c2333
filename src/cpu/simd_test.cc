#include "cpu/simd.h"

#include <gtest/gtest.h>

#include "cpu/test_tensors.h"

namespace hearth {
namespace {

template <typename T>
void check_loads(int codes) {
  for (int code = 0; code < codes; ++code) {
    const T values[8] = {{}, {}, {static_cast<decltype(T{}.bits)>(code)}};
    float out[8];
    simd::store8(out, simd::load8(values));
    const float expected = to_float(values[2]);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(out[2])) << code;
    } else {
      EXPECT_EQ(std::bit_cast<uint32_t>(out[2]), std::bit_cast<uint32_t>(expected)) << code;
    }
  }
}

template <typename T, typename To>
void check_stores(To to) {
  std::mt19937 bits(7);
  for (int round = 0; round < 200000; ++round) {
    // All exponents are as likely, and near the formats' ends more so.
    float in[8];
    for (float& x : in) x = std::bit_cast<float>(static_cast<uint32_t>(bits()));
    if (round % 2)
      in[3] = std::ldexp(std::bit_cast<float>(static_cast<uint32_t>(0x3F800000u | (bits() >> 9))),
                         static_cast<int>(bits() % 48) - 30);
    T out[8];
    simd::store8(out, simd::load8(in));
    for (int i = 0; i < 8; ++i) {
      if (std::isnan(in[i])) {
        ASSERT_TRUE(std::isnan(to_float(out[i])));
      } else {
        ASSERT_EQ(out[i].bits, to(in[i]).bits) << in[i];
      }
    }
  }
}

TEST(Simd, LoadsEveryCode) {
  check_loads<F16>(65536);
  check_loads<BF16>(65536);
  check_loads<E4M3>(256);
}

TEST(Simd, StoresAsTheScalarConversions) {
  check_stores<F16>(to_f16);
  check_stores<BF16>(to_bf16);
  check_stores<E4M3>(to_e4m3);
}

TEST(Simd, ExpIsCloseAndKnowsItsEnds) {
  double worst = 0;
  for (float x = -87.0f; x < 88.0f; x += 0.00137f) {
    const double exact = std::exp(static_cast<double>(x));
    worst = std::max(worst, std::fabs(simd::exp(x) - exact) / (exact * 0x1p-24));
  }
  EXPECT_LT(worst, 3.0);  // 1.5 ulp
  EXPECT_EQ(simd::exp(0.0f), 1.0f);
  EXPECT_EQ(simd::exp(-0.0f), 1.0f);
  EXPECT_EQ(simd::exp(-INFINITY), 0.0f);
  EXPECT_EQ(simd::exp(-200.0f), 0.0f);
  EXPECT_EQ(simd::exp(INFINITY), INFINITY);
  EXPECT_EQ(simd::exp(89.0f), INFINITY);
  EXPECT_GT(simd::exp(-103.0f), 0.0f);
  EXPECT_TRUE(std::isnan(simd::exp(NAN)));
}

TEST(Simd, PartialVectorsTouchOnlyTheirElements) {
  const std::vector<float> in = random_values(40, 3);
  for (int64_t n = 1; n <= 16; ++n) {
    std::vector<float> out(17, -1.0f);
    simd::store_some(out.data(), n, simd::load_some(in.data(), n));
    for (int64_t i = 0; i < 17; ++i) EXPECT_EQ(out[i], i < n ? in[i] : -1.0f);
  }
}

TEST(Simd, DotSumsLanesInTheirOrder) {
  for (const int64_t n : {1, 8, 16, 24, 64, 100}) {
    const std::vector<float> a = random_values(n, 1), b = random_values(n, 2);
    float lanes[16] = {};
    for (int64_t i = 0; i < n; ++i) lanes[i % 16] = std::fma(a[i], b[i], lanes[i % 16]);
    for (int half = 8; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    }
    EXPECT_EQ(simd::dot(a.data(), b.data(), n), lanes[0]);
  }
}

TEST(Simd, MaxAbsSkipsNaN) {
  const float x[5] = {1, -3, NAN, 2, 0};
  EXPECT_EQ(simd::max_abs(x, 5), 3.0f);
}

}  // namespace
}  // namespace hearth
