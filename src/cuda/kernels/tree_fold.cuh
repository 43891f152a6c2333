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

// merge(left, right) of two parts: both are brought to their common maximum. Where a merge happens (registers of a
// warp, a CTA, the last CTA of a row) depends on the schedule, so its roundings are spelled out.
struct MergeWeights {
  float max, left, right;
  __device__ __forceinline__ MergeWeights(float a, float b)
      : max(fmaxf(a, b)), left(exp2_fast(a - max)), right(exp2_fast(b - max)) {}
  __device__ __forceinline__ float apply(float a, float b) const { return __fmaf_rn(a, left, __fmul_rn(b, right)); }
};

// Four values of the result for each four heads: two dimensions of head max.x / sum.x (x and z) and of head max.y /
// sum.y (y and w), with the heads' maxima (of base-2 logits) and sums of weights.
template <int kHalves>
struct Partial {
  float4 value[kHalves];
  float2 max[kHalves], sum[kHalves];

  // *this = merge(left, *this)
  __device__ __forceinline__ void merge_left(const Partial& left) {
#pragma unroll
    for (int h = 0; h < kHalves; ++h) {
      const MergeWeights x(left.max[h].x, max[h].x), y(left.max[h].y, max[h].y);
      value[h] = make_float4(x.apply(left.value[h].x, value[h].x), y.apply(left.value[h].y, value[h].y),
                             x.apply(left.value[h].z, value[h].z), y.apply(left.value[h].w, value[h].w));
      sum[h] = make_float2(x.apply(left.sum[h].x, sum[h].x), y.apply(left.sum[h].y, sum[h].y));
      max[h] = make_float2(x.max, y.max);
    }
  }
};

// waiting[level] holds a subtree whose right sibling is not complete. Indexed at run time, so it lives in local memory;
// it is touched once every two blocks.
template <int kHalves>
class TreeFold {
 public:
  __device__ __forceinline__ void add(Partial<kHalves> node, uint32_t index) {
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
  __device__ __forceinline__ Partial<kHalves> finish() {
    Partial<kHalves> node = waiting_[__ffs(occupied_) - 1];
    for (occupied_ &= occupied_ - 1; occupied_; occupied_ &= occupied_ - 1) {
      node.merge_left(waiting_[__ffs(occupied_) - 1]);
    }
    return node;
  }

 private:
  static constexpr int kLevels = 20;  // 2^20 leaves
  Partial<kHalves> waiting_[kLevels];
  uint32_t occupied_ = 0;
};

}  // namespace hearth::cuda
