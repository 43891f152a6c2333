#include <gtest/gtest.h>

#include "cpu/cpu_backend.h"
#include "cpu/quantize.h"
#include "cpu/test_tensors.h"

namespace hearth {
namespace {

TEST(Norm, AddsThenNormalizesInEveryType) {
  for (const DType act : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const int64_t hidden : {576, 200, 8}) {
      const int64_t tokens = 5;
      const std::vector<float> a = random_values(tokens * hidden, 1, 3), b = random_values(tokens * hidden, 2);
      const OwnedTensor residual(act, {tokens, hidden}, a), before(act, {tokens, hidden}, a),
          delta(act, {tokens, hidden}, b);
      const OwnedTensor weight(DType::kF32, {hidden}, random_values(hidden, 3));
      const OwnedActivation quantized(DType::kE4M3, tokens, hidden, 9);
      const OwnedTensor plain(act, {tokens, hidden}), exact(DType::kF32, {tokens, hidden});
      auto backend = make_cpu_backend(act, 2);
      backend->ops().norm({residual, delta, weight, 1e-5f, quantized, plain});
      backend->ops().norm({residual, {}, weight, 1e-5f, {exact, {}}, {}});
      for (int64_t t = 0; t < tokens; ++t) {
        double squares = 0;
        for (int64_t i = t * hidden; i < (t + 1) * hidden; ++i) {
          EXPECT_EQ(residual[i], OwnedTensor(act, {1}, {before[i] + delta[i]})[0]);
          squares += double(residual[i]) * residual[i];
        }
        for (int64_t i = 0; i < hidden; ++i) {
          const double expected = residual[t * hidden + i] / std::sqrt(squares / double(hidden) + 1e-5) * weight[i];
          EXPECT_NEAR(exact[t * hidden + i], expected, std::fabs(expected) * 1e-6);
          EXPECT_EQ(plain[t * hidden + i], OwnedTensor(act, {1}, {exact[t * hidden + i]})[0]);
        }
        // Quantized from the f32 value, not from the rounded one.
        for (int64_t g = 0; g < hidden; g += 128) {
          E4M3 q[128];
          const int64_t n = std::min<int64_t>(128, hidden - g);
          EXPECT_EQ(quantized.scales[g / 128 * 9 + t],
                    quantize_group(Tensor(exact).as<float>() + t * hidden + g, n, q));
          for (int64_t i = 0; i < n; ++i) EXPECT_EQ(quantized.data[t * hidden + g + i], to_float(q[i]));
        }
      }
    }
  }
}

}  // namespace
}  // namespace hearth
