// What grouped_gemm does with a finished tile: store it, or SwiGLU. A thread holds weight rows r
// and r + 8 (gate and up, where interleaved) of two neighbouring tokens in every 8; see hopper/wgmma.cuh.
#pragma once

#include "cuda/kernels/e4m3.cuh"
#include "cuda/kernels/grouped_gemm_params.h"
#include "tensor/dtype.h"

namespace hearth::cuda {

// Where a warp's 16 weight rows by N tokens go, and what they are multiplied by. (few_rows_gemm has one of its own.)
struct Output {
  int64_t row;              // of y: the tile's first token
  int first, rows;          // tokens [first, rows) are the group's
  int column;               // the warp's first weight row
  int columns;              // n
  float scale0, scale1;     // of weight rows column + lane / 4 and 8 further
  const float* row_scales;  // in shared memory, of the tile's tokens, where a row of x has one scale

  // Whether token 8 j + lane / 4, one of those a thread stores, is the group's. A tile begins less than 8 rows early.
  __device__ __forceinline__ bool stores(int j) const {
    const int lane_token = threadIdx.x % 32 / 4;
    return rows - lane_token > 8 * j && (j > 0 || lane_token >= first);
  }
  // What the totals of tokens 8 j + lane % 4 * 2 + {0, 1} are multiplied by, but for the weights' scales.
  template <bool kRowScales>
  __device__ __forceinline__ float2 token_scales(int j) const {
    if constexpr (kRowScales) return *reinterpret_cast<const float2*>(row_scales + 8 * j + threadIdx.x % 4 * 2);
    return make_float2(1.0f, 1.0f);
  }
};

template <typename T>
__device__ __forceinline__ uint32_t pack16(float low, float high) {
  uint32_t out;
  if constexpr (std::is_same_v<T, F16>)
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
  else
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
  return out;
}

template <typename T>
__device__ __forceinline__ float widen(uint16_t bits) {
  if constexpr (std::is_same_v<T, F16>) {
    float out;
    asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(bits));
    return out;
  } else {
    return __uint_as_float(static_cast<uint32_t>(bits) << 16);
  }
}

// 8 x 8 of 16 bit across the warp: lane (i, j) gives [i][2j, 2j + 1] and receives [2j, 2j + 1][i].
__device__ __forceinline__ uint32_t transpose8x8(uint32_t value) {
  uint32_t out;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(out) : "r"(value));
  return out;
}

template <typename Out, int N, bool kRowScales>
__device__ __forceinline__ void store_tile(const float (&total)[N / 2], Out* y, const auto& out, const uint16_t* bias) {
  if (out.column >= out.columns) return;
  const int lane = threadIdx.x % 32;
  if constexpr (std::is_same_v<Out, float>) {
    Out* at = y + (out.row + lane % 4 * 2) * out.columns + out.column + lane / 4;
#pragma unroll
    for (int i = 0; i < N / 2; ++i) {
      const int token = i / 4 * 8 + lane % 4 * 2 + i % 2;
      if (token >= out.first && token < out.rows)
        at[static_cast<int64_t>(i / 4 * 8 + i % 2) * out.columns + (i & 2) * 4] = total[i];
    }
  } else {
    float bias0 = 0.0f, bias1 = 0.0f;
    if (bias) bias0 = widen<Out>(bias[out.column + lane / 4]), bias1 = widen<Out>(bias[out.column + lane / 4 + 8]);
    Out* at = y + (out.row + lane / 4) * out.columns + out.column + lane % 4 * 2;
#pragma unroll
    for (int j = 0; j < N / 8; ++j, at += 8 * static_cast<int64_t>(out.columns)) {
      const float* t = total + 4 * j;
      const float2 scale = out.token_scales<kRowScales>(j);
      const uint32_t low =
          transpose8x8(pack16<Out>(fmaf(t[0], scale.x * out.scale0, bias0), fmaf(t[1], scale.y * out.scale0, bias0)));
      const uint32_t high =
          transpose8x8(pack16<Out>(fmaf(t[2], scale.x * out.scale1, bias1), fmaf(t[3], scale.y * out.scale1, bias1)));
      if (out.stores(j)) {
        reinterpret_cast<uint32_t*>(at)[0] = low;
        reinterpret_cast<uint32_t*>(at)[4] = high;
      }
    }
  }
}

// silu(gate) * up. 2^x and 1 / x are the special function unit's; where 2^x overflows, silu is 0.
__device__ __forceinline__ float swiglu(float gate, float up) {
  constexpr float kLog2e = 1.44269504f;
  float power, inverse;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(gate * -kLog2e));
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(power + 1.0f));
  return gate * inverse * up;
}

// gate * sigmoid(alpha * gate) * (up + 1), gate and up cut off at the limit. NaN stays.
struct ClampedSwiglu {
  float limit, alpha;
  __device__ __forceinline__ float operator()(float gate, float up) const {
    constexpr float kLog2e = 1.44269504f;
    gate = gate > limit ? limit : gate;
    up = up > limit ? limit : up < -limit ? -limit : up;
    float power, inverse;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(gate * (-kLog2e * alpha)));
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(power + 1.0f));
    return gate * inverse * (up + 1.0f);
  }
};

// `bias`: of the group's weight rows, or null.
template <typename Out, int N, bool kRowScales>
__device__ __forceinline__ void store_clamped_swiglu(const float (&total)[N / 2], Out* y, const auto& out,
                                                     const uint16_t* bias, const ClampedSwiglu& swiglu) {
  if (out.column >= out.columns) return;
  const int lane = threadIdx.x % 32;
  float bias0 = 0.0f, bias1 = 0.0f;
  if (bias) bias0 = widen<Out>(bias[out.column + lane / 4]), bias1 = widen<Out>(bias[out.column + lane / 4 + 8]);
  Out* at = y + (out.row + lane / 4) * (out.columns / 2) + out.column / 2 + lane % 4 * 2;
#pragma unroll
  for (int j = 0; j < N / 8; ++j, at += 8 * static_cast<int64_t>(out.columns / 2)) {
    const float* t = total + 4 * j;
    const float2 scale = out.token_scales<kRowScales>(j);
    const float low = swiglu(fmaf(t[0], scale.x * out.scale0, bias0), fmaf(t[2], scale.x * out.scale1, bias1));
    const float high = swiglu(fmaf(t[1], scale.y * out.scale0, bias0), fmaf(t[3], scale.y * out.scale1, bias1));
    const uint32_t pair = transpose8x8(pack16<Out>(low, high));
    if (out.stores(j)) *reinterpret_cast<uint32_t*>(at) = pair;
  }
}

// In 16 bit, or as e4m3 by way of float16.
template <typename Out, int N, bool kRowScales>
__device__ __forceinline__ void store_swiglu(const float (&total)[N / 2], Out* y, const auto& out) {
  if (out.column >= out.columns) return;
  constexpr bool kNarrow = std::is_same_v<Out, E4M3>;
  const int lane = threadIdx.x % 32;
  Out* at = y + (out.row + lane / 4) * (out.columns / 2) + out.column / 2 + lane % 4 * 2;
#pragma unroll
  for (int j = 0; j < N / 8; ++j, at += 8 * static_cast<int64_t>(out.columns / 2)) {
    const float* t = total + 4 * j;
    const float2 scale = out.token_scales<kRowScales>(j);
    const float low = swiglu(t[0] * (scale.x * out.scale0), t[2] * (scale.x * out.scale1));
    const float high = swiglu(t[1] * (scale.y * out.scale0), t[3] * (scale.y * out.scale1));
    const uint32_t pair = transpose8x8(pack16<std::conditional_t<kNarrow, F16, Out>>(low, high));
    if constexpr (kNarrow) {
      if (out.stores(j)) *reinterpret_cast<uint16_t*>(at) = narrow_row_e4m3(pair);
    } else {
      if (out.stores(j)) *reinterpret_cast<uint32_t*>(at) = pair;
    }
  }
}

}  // namespace hearth::cuda
