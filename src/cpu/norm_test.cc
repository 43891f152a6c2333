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
          EXPECT_EQ(quantized.scales[g / 128 * 9 + t], quantize_group(Tensor(exact).as<float>() + t * hidden + g, n, q,
                                                                      hidden > 128 ? kE4M3Max : kRowE4M3Max));
          for (int64_t i = 0; i < n; ++i) EXPECT_EQ(quantized.data[t * hidden + g + i], to_float(q[i]));
        }
      }
    }
  }
}

// With routing, the experts' rows are weighed, summed in order and rounded, and then it is as with that sum as delta.
TEST(Norm, SumsTheExpertsRowsInOrder) {
  for (const DType act : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const int64_t hidden : {576, 40}) {
      const int64_t tokens = 3, top_k = 2, n = tokens * hidden;
      const std::vector<float> a = random_values(n, 1, 3);
      const OwnedTensor expert_out(act, {tokens * top_k, hidden}, random_values(n * top_k, 2));
      const std::vector<int32_t> rows = {5, 0, 2, 1, 4, 3};
      const std::vector<float> weights = {0.7f, 0.3f, 0.5f, 0.5f, 0.9f, 0.1f};
      const OwnedTensor routed_rows = OwnedTensor::of(rows, {tokens, top_k});
      const OwnedTensor routed_weights = OwnedTensor::of(weights, {tokens, top_k});
      Routing routing;
      routing.rows = routed_rows, routing.weights = routed_weights;
      std::vector<float> sums;
      for (int64_t t = 0; t < tokens; ++t) {
        for (int64_t i = 0; i < hidden; ++i) {
          const float first = weights[2 * t] * expert_out[rows[2 * t] * hidden + i];
          sums.push_back(std::fma(weights[2 * t + 1], expert_out[rows[2 * t + 1] * hidden + i], first));
        }
      }
      const OwnedTensor summed(act, {tokens, hidden}, sums), weight(DType::kF32, {hidden}, random_values(hidden, 3));
      const OwnedTensor residual(act, {tokens, hidden}, a), expected_residual(act, {tokens, hidden}, a);
      const OwnedTensor out(act, {tokens, hidden}), expected(act, {tokens, hidden});
      auto backend = make_cpu_backend(act, 2);
      backend->ops().norm({expected_residual, summed, weight, 1e-5f, {expected, {}}, {}});
      backend->ops().norm({residual, expert_out, weight, 1e-5f, {out, {}}, {}, {}, &routing});
      EXPECT_EQ(residual.bytes(), expected_residual.bytes());
      EXPECT_EQ(out.bytes(), expected.bytes());

      // A shared expert's rows come last.
      const OwnedTensor shared(act, {tokens, hidden}, random_values(n, 4));
      const std::vector<float> shared_weights = {0.25f, 1.0f, 0.7f};
      const OwnedTensor weights_of_shared = OwnedTensor::of(shared_weights, {tokens});
      routing.shared = shared, routing.shared_weights = weights_of_shared;
      for (int64_t i = 0; i < n; ++i) sums[i] = std::fma(shared_weights[i / hidden], shared[i], sums[i]);
      const OwnedTensor all(act, {tokens, hidden}, sums), after(act, {tokens, hidden}, a),
          expected_after(act, {tokens, hidden}, a);
      backend->ops().norm({expected_after, all, weight, 1e-5f, {expected, {}}, {}});
      backend->ops().norm({after, expert_out, weight, 1e-5f, {out, {}}, {}, {}, &routing});
      EXPECT_EQ(after.bytes(), expected_after.bytes());
      EXPECT_EQ(out.bytes(), expected.bytes());
    }
  }
}

TEST(Norm, PicksTokensAndLeavesTheResidual) {
  const int64_t tokens = 5, hidden = 72;
  const DType act = DType::kBF16;
  const std::vector<float> a = random_values(tokens * hidden, 1, 3);
  const OwnedTensor residual(act, {tokens, hidden}, a), before(act, {tokens, hidden}, a),
      delta(act, {tokens, hidden}, random_values(tokens * hidden, 2)),
      weight(DType::kF32, {hidden}, random_values(hidden, 3));
  const std::vector<int32_t> wanted = {4, 0, 0, 2};
  const OwnedTensor some(act, {4, hidden}), all(act, {tokens, hidden}), gathered(act, {4, hidden});
  auto backend = make_cpu_backend(act, 2);
  backend->ops().norm({residual, delta, weight, 1e-5f, {some, {}}, {}, {}, nullptr, OwnedTensor::of(wanted), gathered});
  EXPECT_EQ(residual.bytes(), before.bytes());
  backend->ops().norm({residual, delta, weight, 1e-5f, {all, {}}, {}});
  for (int64_t r = 0; r < 4; ++r) {
    for (int64_t i = 0; i < hidden; ++i) {
      EXPECT_EQ(some[r * hidden + i], all[wanted[size_t(r)] * hidden + i]);
      EXPECT_EQ(gathered[r * hidden + i], residual[wanted[size_t(r)] * hidden + i]);
    }
  }
}

}  // namespace
}  // namespace hearth
