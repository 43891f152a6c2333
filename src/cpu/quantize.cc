// FP8 quantization of vectors, activations and weights.
#include "cpu/quantize.h"

#include <algorithm>
#include <cmath>

#include "cpu/float_types.h"
#include "cpu/simd.h"

namespace hearth {

Fp8Scale fp8_scale(float max_abs, float most) {
  const Fp8Scale s{max_abs / most, most / max_abs};
  return std::isinf(s.inverse) ? Fp8Scale{} : s;  // 0, or so close that nothing of it is left in e4m3 either way
}

void quantize(const float* x, int64_t n, float inverse, E4M3* q) {
  const simd::Lanes factor = simd::splat(inverse);
  for (int64_t i = 0; i < n; i += simd::kLanes) {
    simd::store_some(q + i, n - i, simd::load_some(x + i, n - i) * factor);
  }
}

float quantize_group(const float* x, int64_t n, E4M3* q, float most) {
  const Fp8Scale s = fp8_scale(simd::max_abs(x, n), most);
  quantize(x, n, s.inverse, q);
  return s.scale;
}

void store_activation(const float* x, int64_t n, const Activation& out, int64_t token, int64_t column) {
  const int64_t at = token * out.data.dim(1) + column;
  if (out.data.dtype != DType::kE4M3) {
    visit_act(out.data.dtype, [&]<typename Act>(Act) { simd::convert(x, out.data.as<Act>() + at, n); });
    return;
  }
  if (!out.scales) {
    for (int64_t i = 0; i < n; ++i) out.data.as<E4M3>()[at + i] = to_e4m3(std::clamp(x[i], -kRowE4M3Max, kRowE4M3Max));
    return;
  }
  if (out.scales.dim(0) == 1) {
    HEARTH_CHECK(n == out.data.dim(1));
    out.scales.as<float>()[token] = quantize_group(x, n, out.data.as<E4M3>() + at, kRowE4M3Max);
    return;
  }
  HEARTH_CHECK(column % kScaleGroup == 0);
  float* scales = out.scales.as<float>() + column / kScaleGroup * out.scales.dim(1) + token;
  for (int64_t begin = 0; begin < n; begin += kScaleGroup, scales += out.scales.dim(1)) {
    *scales = quantize_group(x + begin, std::min(kScaleGroup, n - begin), out.data.as<E4M3>() + at + begin);
  }
}

QuantizedMatrix quantize_matrix(const Tensor& weight, WeightScales kind) {
  HEARTH_CHECK(kind != WeightScales::kNone);
  return kind == WeightScales::kBlock ? quantize_matrix(weight, kScaleGroup, kScaleGroup)
                                      : quantize_matrix(weight, 1, weight.dim(1));
}

QuantizedMatrix quantize_matrix(const Tensor& weight, int64_t group_rows, int64_t group_columns) {
  const int64_t rows = weight.dim(0), columns = weight.dim(1);
  QuantizedMatrix out;
  out.data.resize(static_cast<size_t>(rows * columns));
  std::vector<float> values(static_cast<size_t>(group_rows * columns));
  for (int64_t row = 0; row < rows; row += group_rows) {
    const int64_t height = std::min(group_rows, rows - row);
    visit_act(weight.dtype,
              [&]<typename T>(T) { simd::convert(weight.as<T>() + row * columns, values.data(), height * columns); });
    for (int64_t column = 0; column < columns; column += group_columns) {
      const int64_t width = std::min(group_columns, columns - column);
      float largest = 0;
      for (int64_t i = 0; i < height; ++i) {
        largest = std::max(largest, simd::max_abs(values.data() + i * columns + column, width));
      }
      const Fp8Scale s = fp8_scale(largest);
      out.scales.push_back(s.scale);
      for (int64_t i = 0; i < height; ++i) {
        quantize(values.data() + i * columns + column, width, s.inverse,
                 out.data.data() + (row + i) * columns + column);
      }
    }
  }
  return out;
}

}  // namespace hearth
