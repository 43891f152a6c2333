// The fixed binary tree in which partial softmax results are merged (ops/kv_layout.h): leaves arrive in the order of
// their index, finished subtrees wait for their right sibling.
#pragma once

#include <cstdint>

namespace hearth::cuda {

__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ __forceinline__ float log2_fast(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// merge(left, right) of two parts: both are brought to their common maximum. Where a merge happens (registers of a
// warp, a CTA, the last CTA of a row) depends on the schedule, so its roundings are spelled out.
struct MergeWeights {
  float max, left, right;
  __device__ __forceinline__ MergeWeights(float a, float b)
      : max(fmaxf(a, b)), left(exp2_fast(a - max)), right(exp2_fast(b - max)) {}
  __device__ __forceinline__ float apply(float a, float b) const { return __fmaf_rn(a, left, __fmul_rn(b, right)); }
};

// What a thread holds of a node: for each of its heads some values of the weighted sum, the reference (a base-2 logit)
// to which they are relative, and its share of the sum of weights.
template <int kHeads, int kValues>
struct Partial {
  float value[kHeads][kValues], max[kHeads], sum[kHeads];

  // *this = merge(left, *this)
  __device__ __forceinline__ void merge_left(const Partial& left) {
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      const MergeWeights weights(left.max[h], max[h]);
#pragma unroll
      for (int i = 0; i < kValues; ++i) value[h][i] = weights.apply(left.value[h][i], value[h][i]);
      sum[h] = weights.apply(left.sum[h], sum[h]);
      max[h] = weights.max;
    }
  }
};

// waiting[level] holds a subtree whose right sibling is not complete. Indexed at run time, so it lives in local memory;
// it is touched once every two blocks.
template <typename Part>
class TreeFold {
 public:
  __device__ __forceinline__ void add(Part node, uint32_t index) {
    int level = 0;
    for (;; index >>= 1, ++level) {
      if (!(index & 1)) break;
      if (occupied_ >> level & 1) {
        node.merge_left(waiting_[level]);
        occupied_ ^= 1u << level;
      }
    }
    waiting_[level] = node;
    occupied_ |= 1u << level;
  }

  // The root, from at least one leaf; the fold is empty afterwards.
  __device__ __forceinline__ Part finish() {
    Part node = waiting_[__ffs(occupied_) - 1];
    for (occupied_ &= occupied_ - 1; occupied_; occupied_ &= occupied_ - 1) {
      node.merge_left(waiting_[__ffs(occupied_) - 1]);
    }
    return node;
  }

 private:
  static constexpr int kLevels = 20;  // 2^20 leaves
  Part waiting_[kLevels];
  uint32_t occupied_ = 0;
};

}  // namespace hearth::cuda
