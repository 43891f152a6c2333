// few_rows_gemm where x has a scale for every 128 of K, and the weights one a channel or for every 128 by 128: the sums
// over 128 of K, in float32, and what they are multiplied by before they add up, as grouped_gemm's large tiles do it.
#pragma once

#include "cuda/hopper/async_store.cuh"
#include "cuda/kernels/few_rows_gemm_params.h"
#include "cuda/kernels/grouped_gemm_math.cuh"

namespace hearth::cuda {

constexpr int kScaledBlocks = 8;  // whose scales a warp holds at a time

// The scales of eight blocks of K: lane 4 b + q has block b's, of tokens 8 j + 2 q and the next, and of the weights
// (gate's and up's, where rows are pairs).
template <int kN, bool kPairs>
struct EightBlocks {
  float2 tokens[kN / 8];
  WeightScale<kPairs> weights;

  // From block `first` on, of weight rows from 64 * m_tile on and tokens [row, row + rows).
  __device__ __forceinline__ void load(const FewRowsGemmParams& p, int group, int m_tile, int row, int rows,
                                       int first) {
    const int lane = threadIdx.x % 32, block = first + lane / 4;
    const bool inside = block < p.k_blocks;
    if (p.block_scales && inside) {
      constexpr int kRows = kPairs ? 256 : 128, kEach = kPairs ? 2 : 1;  // gate's and up's, of 128 each
      const int of_n = min(m_tile * kFewRowsTileM, p.n - 1) / kRows;
      const int64_t at = (int64_t{group} * ceil_div(p.n, kRows) + of_n) * kEach * p.k_blocks + block;
      weights.first = __ldg(p.block_scales + at);
      if constexpr (kPairs) weights.second = __ldg(p.block_scales + at + p.k_blocks);
    } else {
      weights = {};
    }
#pragma unroll
    for (int j = 0; j < kN / 8; ++j) {
      const int token = 8 * j + lane % 4 * 2;
      const float* scales = p.x_scales + block * p.x_scale_stride + row + token;
      tokens[j].x = inside && token < rows ? __ldcg(scales) : 0.0f;
      tokens[j].y = inside && token + 1 < rows ? __ldcg(scales + 1) : 0.0f;
    }
  }
};

// What a sum of eight blocks' is multiplied by.
template <int kN, bool kPairs>
class BlockFactors {
 public:
  __device__ __forceinline__ explicit BlockFactors(const EightBlocks<kN, kPairs>& scales) {
#pragma unroll
    for (int j = 0; j < kN / 8; ++j) {
      const float2 x = scales.tokens[j];
      first_[j] = {x.x * scales.weights.first, x.y * scales.weights.first};
      if constexpr (kPairs) second_[j] = {x.x * scales.weights.second, x.y * scales.weights.second};
    }
  }
  // total += the sum over block `block` of the eight, scaled.
  __device__ __forceinline__ void add(float (&total)[kN / 2], const float (&sum)[kN / 2], int block) const {
    const int from = block * 4 + threadIdx.x % 4;
#pragma unroll
    for (int j = 0; j < kN / 8; ++j) {
      const float2 a = of_lane(first_[j], from);
      const float2 b = kPairs ? of_lane(second_[kPairs ? j : 0], from) : a;
      total[4 * j] = fmaf(sum[4 * j], a.x, total[4 * j]);
      total[4 * j + 1] = fmaf(sum[4 * j + 1], a.y, total[4 * j + 1]);
      total[4 * j + 2] = fmaf(sum[4 * j + 2], b.x, total[4 * j + 2]);
      total[4 * j + 3] = fmaf(sum[4 * j + 3], b.y, total[4 * j + 3]);
    }
  }

 private:
  static __device__ __forceinline__ float2 of_lane(float2 v, int lane) {
    return {__shfl_sync(0xFFFFFFFF, v.x, lane), __shfl_sync(0xFFFFFFFF, v.y, lane)};
  }
  float2 first_[kN / 8], second_[kPairs ? kN / 8 : 1];
};

// Calls f(sum, i) with the sum over each of the next `count` stages, two of which are in flight at a time.
template <int kN, typename F>
__device__ __forceinline__ void sum_each_stage(const Operands& o, int count, StageAt& at, F&& f) {
  const auto start = [&](float(&sum)[kN / 2]) {
    hopper::mbarrier_wait(o.full + 8 * at.index, at.parity);
    hopper::wgmma_fence();
    multiply_stage<E4M3, 0, kN>(sum, o, at.index, false);
    hopper::wgmma_commit();
    const int stage = at.index;
    at.advance(o.stages);
    return stage;
  };
  int i = 0;
#pragma unroll 1
  for (; i + 1 < count; i += 2) {
    float a[kN / 2], b[kN / 2];
    const int first = start(a), second = start(b);
    hopper::wgmma_wait<1>();
    hopper::wgmma_pin(a);
    release(o, first);
    f(a, i);
    hopper::wgmma_wait<0>();
    hopper::wgmma_pin(b);
    release(o, second);
    f(b, i + 1);
  }
  if (i < count) {
    float a[kN / 2];
    const int stage = start(a);
    hopper::wgmma_wait<0>();
    hopper::wgmma_pin(a);
    release(o, stage);
    f(a, i);
  }
}

}  // namespace hearth::cuda
