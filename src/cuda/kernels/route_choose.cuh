// route's choice: one warp, from a token's logits to its experts and their weights.
#pragma once

#include "cuda/kernels/vector.cuh"

namespace hearth::cuda {

// Of lane k: the token's expert k.
struct Choice {
  int expert = 0;
  float weight = 0.0f;
};

// A lane has kSlots neighbouring experts.
template <int kSlots>
__device__ __forceinline__ void add_bias(float (&logits)[kSlots], const float* bias, int num_experts) {
  const int first = threadIdx.x % 32 * kSlots;
#pragma unroll
  for (int i = 0; i < kSlots; ++i) {
    if (first + i < num_experts) logits[i] += __ldg(bias + first + i);
  }
}

// The top_k largest logits, ties to the lower index, and their softmax over all experts or, renormalized, over the
// chosen. A lane has kSlots neighbouring experts.
template <int kSlots>
__device__ __forceinline__ Choice choose_experts(const float (&logits)[kSlots], int num_experts, int top_k,
                                                 bool renormalize) {
  const int lane = threadIdx.x % 32, first = lane * kSlots;
  uint32_t order[kSlots];  // as logits compare, plus one, so that a NaN still beats what is taken or no expert
#pragma unroll
  for (int i = 0; i < kSlots; ++i) order[i] = first + i < num_experts ? float_order(logits[i]) + 1 : 0;
  uint32_t my_order = 0;
  Choice mine;
#pragma unroll 1
  for (int k = 0; k < top_k; ++k) {
    uint32_t best = 0;
#pragma unroll
    for (uint32_t each : order) best = max(best, each);
    best = __reduce_max_sync(~0u, best);
    uint32_t expert = ~0u;
#pragma unroll
    for (int i = 0; i < kSlots; ++i) expert = min(expert, order[i] == best ? first + i : ~0u);
    expert = __reduce_min_sync(~0u, expert);
#pragma unroll
    for (int i = 0; i < kSlots; ++i) order[i] = expert == first + i ? 0 : order[i];
    if (lane == k) mine.expert = static_cast<int>(expert), my_order = best;
  }
  const float largest = __shfl_sync(~0u, my_order > 1 ? float_of_order(my_order - 1) : NAN, 0);
  float sum = 0.0f;
  if (lane < top_k) sum = mine.weight = expf((my_order > 1 ? float_of_order(my_order - 1) : NAN) - largest);
  if (!renormalize) {
    sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kSlots; ++i) sum += first + i < num_experts ? expf(logits[i] - largest) : 0.0f;
  }
  mine.weight /= warp_sum(sum);
  return mine;
}

}  // namespace hearth::cuda
