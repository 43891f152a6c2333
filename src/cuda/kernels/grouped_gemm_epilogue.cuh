// What grouped_gemm does with a finished tile: store it, or SwiGLU and perhaps quantize. A thread holds weight rows r
// and r + 8 (gate and up, where interleaved) of two neighbouring tokens in every 8; see hopper/wgmma.cuh.
#pragma once

#include "cuda/hopper/cluster.cuh"
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

// The cluster's two CTAs hold 64 columns each of a token's scale group of 128: every warp adds its maxima to both CTAs'
// table, and when all have, each CTA computes the inverses for itself. Maxima of magnitudes compare as integers.
struct QuantizeShared {
  uint64_t maxima_ready;
  uint32_t maxima[2][kMaxPiece];  // of alternating tiles, zero between uses
  float inverses[2][kMaxPiece];
};

__device__ __forceinline__ void max_in_cluster(uint32_t* at, uint32_t cta, uint32_t value) {
  asm volatile(
      "{ .reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %0, %1;\n"
      "red.relaxed.cluster.shared::cluster.max.u32 [remote], %2; }" ::"r"(hopper::shared_address(at)),
      "r"(cta), "r"(value)
      : "memory");
}

// values[i], i = 0..7: returns in lane (g, p) the maximum over the eight g of values[g], in 7 shuffles.
__device__ __forceinline__ float reduce8(float (&values)[8]) {
  const int g = threadIdx.x % 32 / 4;
#pragma unroll
  for (int half = 4; half >= 1; half /= 2) {
    const bool upper = g & half;
#pragma unroll
    for (int i = 0; i < half; ++i) {
      const float keep = upper ? values[i + half] : values[i];
      const float give = upper ? values[i] : values[i + half];
      values[i] = fmaxf(keep, __shfl_xor_sync(0xFFFFFFFF, give, half * 4));
    }
  }
  return values[0];
}

template <int N>
__device__ __forceinline__ void store_swiglu_e4m3(float (&total)[N / 2], uint8_t* y, const Output& out,
                                                  QuantizeShared& shared, uint32_t tile_count, float* y_scales) {
  const int lane = threadIdx.x % 32;
  uint32_t* maxima = shared.maxima[tile_count % 2];
  float* inverses = shared.inverses[tile_count % 2];
  float v[N / 4];  // column lane / 4 of tokens 8 j + lane % 4 * 2 + {0, 1}
#pragma unroll
  for (int j = 0; j < N / 8; ++j) {
    const float* t = total + 4 * j;
    v[2 * j] = swiglu(t[0] * out.scale0, t[2] * out.scale1);
    v[2 * j + 1] = swiglu(t[1] * out.scale0, t[3] * out.scale1);
  }
#pragma unroll
  for (int i = 0; i < N / 4; i += 8) {
    float eight[8];
#pragma unroll
    for (int e = 0; e < 8; ++e) eight[e] = i + e < N / 4 ? fabsf(v[i + e]) : 0.0f;
    const float most = reduce8(eight);
    const int mine = i + lane / 4;  // the value this lane holds the maximum of
    const int token = mine / 2 * 8 + lane % 4 * 2 + mine % 2;
    if (mine < N / 4) {
      max_in_cluster(&maxima[token], 0, __float_as_uint(most));
      max_in_cluster(&maxima[token], 1, __float_as_uint(most));
    }
  }
  __syncwarp();
  if (lane < 2) hopper::mbarrier_arrive_cluster(&shared.maxima_ready, lane);
  hopper::mbarrier_wait_cluster(&shared.maxima_ready, tile_count % 2);
  for (int token = threadIdx.x; token < N; token += 256) {
    const float most = __uint_as_float(maxima[token]);
    maxima[token] = 0;
    inverses[token] = most > 0.0f ? __fdiv_rn(448.0f, most) : 1.0f;
    if (y_scales && token >= out.first && token < out.rows)
      y_scales[out.row + token] = most > 0.0f ? __fdiv_rn(most, 448.0f) : 1.0f;
  }
  hopper::named_sync(1, 256);
  // Four groups of 8 tokens at a time: two at once through the 16-bit transpose, then four lanes trade so that each
  // ends with the eight columns of one token.
  const int p = lane % 4;
#pragma unroll
  for (int j = 0; j < N / 8; j += 4) {
    uint32_t pairs[2] = {0, 0};
    uint16_t bytes[4];  // of group j + i: tokens 2p, 2p + 1 of this lane's column
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      bytes[i] = 0;
      if (j + i < N / 8) {
        const float2 inverse = *reinterpret_cast<const float2*>(&inverses[8 * (j + i) + 2 * p]);
        bytes[i] = narrow_e4m3(v[2 * (j + i)] * inverse.x, v[2 * (j + i) + 1] * inverse.y);
      }
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      // [token 2p: group 2i, group 2i + 1, token 2p + 1: likewise] -> [column 2p: two groups, column 2p + 1: two
      // groups]
      pairs[i] = transpose8x8(__byte_perm(bytes[2 * i], bytes[2 * i + 1], 0x5140));
      pairs[i] = __byte_perm(pairs[i], 0, 0x3120);  // -> [group 2i: columns 2p, 2p + 1; group 2i + 1: likewise]
    }
    const uint64_t items = pairs[0] | static_cast<uint64_t>(pairs[1]) << 32;  // 16 bits a group
    // Of token lane / 4 of group j + p: columns 2q, 2q + 1 from lane q of the four.
    const uint64_t row = trade_in_quad(items);
    const int token = 8 * (j + p) + lane / 4;
    if (token >= out.first && token < out.rows && out.column < out.columns)
      *reinterpret_cast<uint64_t*>(y + (out.row + token) * (out.columns / 2) + out.column / 2) = row;
  }
}

}  // namespace hearth::cuda
