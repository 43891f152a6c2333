#include "cpu/panels.h"

#include <gtest/gtest.h>

#include "cpu/test_tensors.h"

namespace hearth {
namespace {

struct Case {
  DType dtype;
  int64_t in, tokens;
  enum { kPlain, kWeightScales, kBothScales } scales;
};

// The definition in panels.h, one element at a time.
float element_of_product(const PanelProduct& p, const Tensor& weights, int64_t token, int64_t row) {
  float total = 0;
  for (int64_t k = 0; k < p.in; k += 128) {
    float partial = 0;
    for (int64_t i = k; i < std::min(p.in, k + 128); ++i) {
      partial = std::fma(p.x[token * p.in + i], element(weights, i * kPanelRows + row), partial);
    }
    if (p.weight_scales) {
      const float x_scale = p.x_scales ? p.x_scales[k / 128 * p.x_scale_stride + token] : 1.0f;
      total = std::fma(partial, x_scale * p.weight_scales[k / 128 * p.weight_scale_stride + row], total);
    } else {
      total += partial;
    }
  }
  return total;
}

class PanelsTest : public testing::TestWithParam<bool> {};  // whether on AVX-512

TEST_P(PanelsTest, EveryBitIsTheDefinitions) {
  if (GetParam() && !has_avx512()) GTEST_SKIP();
  std::vector<Case> cases;
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kE4M3}) {
    for (const int64_t in : {1, 64, 128, 200, 576}) {
      for (const int64_t tokens : {1, 2, 3, 4, 5, 6, 7, 12, 29}) cases.push_back({dtype, in, tokens, Case::kPlain});
    }
  }
  for (const int64_t tokens : {1, 5, 9}) {
    cases.push_back({DType::kE4M3, 576, tokens, Case::kWeightScales});
    cases.push_back({DType::kE4M3, 576, tokens, Case::kBothScales});
  }
  for (const Case& c : cases) {
    const OwnedTensor weights(c.dtype, {c.in, kPanelRows}, random_values(c.in * kPanelRows, 1));
    const std::vector<float> x = random_values(c.tokens * c.in, 2);
    const int64_t groups = ceil_div(c.in, 128);
    const std::vector<float> weight_scales = random_values(groups * kPanelRows, 3);
    const std::vector<float> x_scales = random_values(groups * 40, 4);
    std::vector<float> out(static_cast<size_t>(c.tokens * kPanelRows), NAN);
    std::vector<float> widened(128 * kPanelRows);
    PanelProduct p{};
    p.weights = Tensor(weights).data;
    p.dtype = c.dtype;
    p.in = c.in;
    p.x = x.data();
    p.tokens = c.tokens;
    if (c.scales != Case::kPlain) p.weight_scales = weight_scales.data(), p.weight_scale_stride = kPanelRows;
    if (c.scales == Case::kBothScales) p.x_scales = x_scales.data(), p.x_scale_stride = 40;
    p.out = out.data();
    p.widened = widened.data();
    GetParam() ? multiply_panel_avx512(p) : multiply_panel_avx2(p);
    for (int64_t token = 0; token < c.tokens; ++token) {
      for (int64_t row = 0; row < kPanelRows; ++row) {
        ASSERT_EQ(out[token * kPanelRows + row], element_of_product(p, weights, token, row))
            << dtype_name(c.dtype) << " in " << c.in << " tokens " << c.tokens << " row " << row;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Instructions, PanelsTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "avx512" : "avx2"; });

TEST(Panels, PackingTransposesAndPads) {
  const int64_t in = 37;
  const OwnedTensor matrix(DType::kBF16, {kPanelRows, in}, random_values(kPanelRows * in, 5));
  const void* rows[kPanelRows];
  for (int64_t r = 0; r < kPanelRows; ++r) rows[r] = r % 3 ? Tensor(matrix).rows(r, 1).data : nullptr;
  OwnedTensor panel(DType::kBF16, {in, kPanelRows});
  pack_panel(rows, DType::kBF16, in, Tensor(panel).data);
  for (int64_t r = 0; r < kPanelRows; ++r) {
    for (int64_t k = 0; k < in; ++k) EXPECT_EQ(panel[k * kPanelRows + r], r % 3 ? matrix[r * in + k] : 0.0f);
  }
}

}  // namespace
}  // namespace hearth
