// What a block of experts adds to a token: the weighted sum of its experts' rows, and of its shared expert's.
#pragma once

#include "cpu/simd.h"
#include "ops/ops.h"

namespace hearth {

// Channels [i, i + kLanes) of it, rounded to Act as NormArgs says; `rows` are [expert_rows, hidden].
template <typename Act>
simd::Lanes combined(const Act* rows, const Routing& routing, int64_t token, int64_t hidden, int64_t i) {
  const int64_t top_k = routing.rows.dim(1);
  const int32_t* at = routing.rows.as<int32_t>() + token * top_k;
  const float* weights = routing.weights.as<float>() + token * top_k;
  simd::Lanes sum = simd::splat(0);
  for (int64_t k = 0; k < top_k; ++k) {
    if (routing.here.size() > 0 && !routing.is_here(routing.experts.as<int32_t>()[token * top_k + k])) continue;
    sum = fma(simd::splat(weights[k]), simd::load_some(rows + at[k] * hidden + i, hidden - i), sum);
  }
  if (routing.shared) {
    const float weight = routing.shared_weights ? routing.shared_weights.as<float>()[token] : 1.0f;
    sum = fma(simd::splat(weight), simd::load_some(routing.shared.as<Act>() + token * hidden + i, hidden - i), sum);
  }
  Act rounded[simd::kLanes];
  simd::store(rounded, sum);
  return simd::load(rounded);
}

}  // namespace hearth
