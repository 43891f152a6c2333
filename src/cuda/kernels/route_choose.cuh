// route's choice: one warp, from a token's logits to its experts and their weights.
#pragma once

#include "cuda/kernels/vector.cuh"

namespace hearth::cuda {

// How experts are chosen and weighed: RouteArgs of ops/ops.h.
struct Choosing {
  const float* bias;        // [experts], or null
  const float* correction;  // [experts], or null
  Scoring scoring;
  int num_experts, top_k;
};

// Of lane k: the token's expert k.
struct Choice {
  int expert = 0;
  float weight = 0.0f;
};

// A lane has kSlots neighbouring experts.
template <int kSlots>
__device__ __forceinline__ void add(float (&values)[kSlots], const float* to_each, int num_experts) {
  const int first = threadIdx.x % 32 * kSlots;
#pragma unroll
  for (int i = 0; i < kSlots; ++i) {
    if (first + i < num_experts) values[i] += __ldg(to_each + first + i);
  }
}

// The top_k largest scores, ties to the lower index. What lane k has of the k-th: its index, and its score as
// float_order has it, plus one, so that a NaN still beats what is taken or no expert.
template <int kSlots>
__device__ __forceinline__ uint32_t take_largest(const float (&scores)[kSlots], int num_experts, int top_k,
                                                 int& expert) {
  const int lane = threadIdx.x % 32, first = lane * kSlots;
  uint32_t order[kSlots];
#pragma unroll
  for (int i = 0; i < kSlots; ++i) order[i] = first + i < num_experts ? float_order(scores[i]) + 1 : 0;
  uint32_t mine = 0;
#pragma unroll 1
  for (int k = 0; k < top_k; ++k) {
    uint32_t best = 0;
#pragma unroll
    for (uint32_t each : order) best = max(best, each);
    best = __reduce_max_sync(~0u, best);
    uint32_t at = ~0u;
#pragma unroll
    for (int i = 0; i < kSlots; ++i) at = min(at, order[i] == best ? first + i : ~0u);
    at = __reduce_min_sync(~0u, at);
#pragma unroll
    for (int i = 0; i < kSlots; ++i) order[i] = at == first + i ? 0 : order[i];
    if (lane == k) expert = static_cast<int>(at), mine = best;
  }
  return mine;
}

__device__ __forceinline__ float sigmoid(float x) { return __fdiv_rn(1.0f, 1.0f + expf(-x)); }

// Of the experts chosen by their sigmoids: those.
template <int kSlots>
__device__ __forceinline__ float weight_of_sigmoids(const float (&logits)[kSlots], int expert, const Choosing& c) {
  float logit = 0.0f;
#pragma unroll
  for (int i = 0; i < kSlots; ++i) {
    const float theirs = __shfl_sync(~0u, logits[i], expert / kSlots);
    if (expert % kSlots == i) logit = theirs;
  }
  const float weight = static_cast<int>(threadIdx.x % 32) < c.top_k ? sigmoid(logit) : 0.0f;
  return c.scoring.renormalize ? __fdiv_rn(weight, warp_sum(weight) + 1e-20f) : weight;
}

// Of the experts chosen by their logits: the softmax over all experts or, renormalized, over the chosen. `order`: the
// lane's logit, as take_largest gives it.
template <int kSlots>
__device__ __forceinline__ float weight_of_softmax(const float (&logits)[kSlots], uint32_t order, const Choosing& c) {
  const int lane = threadIdx.x % 32;
  const float logit = order > 1 ? float_of_order(order - 1) : NAN, largest = __shfl_sync(~0u, logit, 0);
  float weight = 0.0f, sum = 0.0f;
  if (lane < c.top_k) sum = weight = expf(logit - largest);
  if (!c.scoring.renormalize) {
    sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kSlots; ++i) sum += lane * kSlots + i < c.num_experts ? expf(logits[i] - largest) : 0.0f;
  }
  return weight / warp_sum(sum);
}

// The choice itself is there once: code that is not in the caches takes time.
template <int kSlots>
__device__ __forceinline__ Choice choose_experts(float (&logits)[kSlots], const Choosing& c) {
  if (c.bias) add<kSlots>(logits, c.bias, c.num_experts);
  float scores[kSlots];
#pragma unroll
  for (int i = 0; i < kSlots; ++i) scores[i] = logits[i];
  if (c.scoring.sigmoid) {
#pragma unroll
    for (float& score : scores) score = sigmoid(score);
    if (c.correction) add<kSlots>(scores, c.correction, c.num_experts);
  }
  Choice mine;
  const uint32_t order = take_largest<kSlots>(scores, c.num_experts, c.top_k, mine.expert);
  mine.weight = c.scoring.scale * (c.scoring.sigmoid ? weight_of_sigmoids<kSlots>(logits, mine.expert, c)
                                                     : weight_of_softmax<kSlots>(logits, order, c));
  return mine;
}

}  // namespace hearth::cuda
