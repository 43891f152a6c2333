#include "tensor/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace hearth {
namespace {

// Every code survives the round trip, and every float between two neighbours goes to the nearer, ties to the even code.
template <typename T, typename ToT>
void check_format(int codes, ToT to, float finite_max) {
  for (int code = 0; code < codes; ++code) {
    const T v{static_cast<decltype(T{}.bits)>(code)};
    const float f = to_float(v);
    if (std::isnan(f)) {
      EXPECT_TRUE(std::isnan(to_float(to(f))));
      continue;
    }
    EXPECT_EQ(to(f).bits, v.bits) << code;
    if (std::fabs(f) >= finite_max || std::signbit(f)) continue;
    const T next{static_cast<decltype(T{}.bits)>(code + 1)};
    const float middle = f + (to_float(next) - f) / 2;  // exact in float32
    EXPECT_EQ(to(middle).bits, (code & 1) ? code + 1 : code) << code;
    EXPECT_EQ(to(std::nextafter(middle, 0.0f)).bits, code);
    EXPECT_EQ(to(std::nextafter(middle, INFINITY)).bits, code + 1);
  }
}

TEST(DType, E4M3RoundsToNearestEven) {
  check_format<E4M3>(256, to_e4m3, 448.0f);
  EXPECT_EQ(to_float(to_e4m3(1e9f)), 448.0f);
  EXPECT_EQ(to_float(to_e4m3(-INFINITY)), -448.0f);
  EXPECT_EQ(to_float(to_e4m3(460.0f)), 448.0f);
}
TEST(DType, F16RoundsToNearestEven) {
  check_format<F16>(65536, to_f16, 65504.0f);
  EXPECT_TRUE(std::isinf(to_float(to_f16(65520.0f))));
  EXPECT_EQ(to_float(to_f16(65519.0f)), 65504.0f);
}
TEST(DType, BF16RoundsToNearestEven) { check_format<BF16>(65536, to_bf16, 3.3895313892515355e38f); }

}  // namespace
}  // namespace hearth
