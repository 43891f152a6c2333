// The FP8 recipe of ops/ops.h: e4m3 with a scale per group, for activations, KV and weights alike.
#pragma once

#include <vector>

#include "ops/backend.h"

namespace hearth {

struct Fp8Scale {
  float scale = 1.0f, inverse = 1.0f;
};
// Brings max_abs to `most`.
Fp8Scale fp8_scale(float max_abs, float most = kE4M3Max);

// q = x * inverse, rounded to nearest even, saturating.
void quantize(const float* x, int64_t n, float inverse, E4M3* q);
// One group; returns its scale.
float quantize_group(const float* x, int64_t n, E4M3* q, float most = kE4M3Max);

// Writes columns [column, column + n) of a token's row: rounded to the type of `out`; or quantized, as the scales'
// shape says, with a scale per kScaleGroup channels, of which `column` is then a multiple, with one for the whole row,
// or without any.
void store_activation(const float* x, int64_t n, const Activation& out, int64_t token, int64_t column = 0);

// A weight [out, in] of 16 or 32 bit in e4m3, with a scale for each group of so many rows and columns.
struct QuantizedMatrix {
  std::vector<E4M3> data;
  std::vector<float> scales;
};
QuantizedMatrix quantize_matrix(const Tensor& weight, int64_t group_rows, int64_t group_columns);
// Scaled per output channel or per 128x128 block.
QuantizedMatrix quantize_matrix(const Tensor& weight, WeightScales kind);

}  // namespace hearth
