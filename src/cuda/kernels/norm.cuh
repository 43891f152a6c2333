// norm: a block a row, the row in registers: residual add (where experts wrote the rows, of their weighted sum), RMS
// over the block, then the result in e4m3 with scales, in 16 bit, or both. One read and one write of each tensor.
#pragma once

#include "cuda/hopper/cluster.cuh"
#include "cuda/kernels/true_rows.cuh"
#include "cuda/kernels/vector.cuh"

namespace hearth::cuda {

template <typename T>
struct NormParams {
  const T* residual;
  T* sum;                       // of residual and delta, a row of the output each; the residual itself; or null
  const T* delta;               // [rows, hidden] or null; with experts' rows those, [expert rows, hidden]
  const int32_t* expert_rows;   // [tokens, top_k]
  const float* expert_weights;  // [tokens, top_k]
  int top_k;
  const T* shared;              // [tokens, hidden], a shared expert's rows; or null
  const float* shared_weights;  // [tokens], or null: 1
  const int32_t* tokens;        // [rows]: which of the residual's rows; or null: each its own
  const float* weight;
  T* out_act;         // or null; where the consumer wants 16 bit, its input too
  T* out_act_too;     // or null
  uint8_t* out_e4m3;  // unless NormScales::kNone
  float* out_scales;  // [hidden / 128, scale_stride], or [rows]
  int64_t scale_stride;
  const int32_t* num_rows;
  int64_t rows;
  int hidden;
  float epsilon;
};

enum class NormScales { kNone, kRow, kGroups };  // of the result in e4m3: none, one a row, one per 128 channels

constexpr int kNormThreads = 512;
constexpr int kExpertsAhead = 2;  // of a token, whose rows are loaded while the row before is worked on

// Where what makes a row is: lane k of each warp has the row and weight of the token's expert k, all the shared one's.
struct NormSource {
  int32_t token = 0;
  int32_t expert_row = 0;
  float expert_weight = 0.0f, shared_weight = 1.0f;
};

// A block walks over rows, the next row's loads in flight while it works on one. A warp's lanes have 32 neighbouring
// vectors, whose squares are summed first, so that a row's sum is the same however many threads share it.
template <typename T, int kPerThread, bool kExperts, NormScales kScales>
__global__ __launch_bounds__(kNormThreads, kPerThread == 1 ? 2 : 1) void norm_kernel(const NormParams<T> p) {
  hopper::start_next_kernel();
  constexpr int kDeltas = kExperts ? kExpertsAhead : 1;
  __shared__ float sums[2][kPerThread * kNormThreads / 32];
  const int vectors = p.hidden / kVector, warps = blockDim.x / 32, lane = threadIdx.x % 32;
  const auto rows = static_cast<int32_t>(true_rows(p.num_rows, p.rows));
  float weight[kPerThread][8] = {};  // not written by any kernel: read ahead of the kernel before us
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    const int at = threadIdx.x + i * blockDim.x;
    if (at < vectors) load8(p.weight + at * kVector, weight[i]);
  }
  // Ahead of the kernel before us: the step's inputs, and the routing, behind which products lie.
  const auto find = [&](int32_t row) {
    NormSource out{row};
    if (row >= rows) return out;
    if (p.tokens) out.token = __ldcg(p.tokens + row);
    if (kExperts && lane < p.top_k) {
      out.expert_row = __ldcg(p.expert_rows + int64_t{out.token} * p.top_k + lane);
      out.expert_weight = __ldcg(p.expert_weights + int64_t{out.token} * p.top_k + lane);
    }
    if (kExperts && p.shared_weights) out.shared_weight = __ldcg(p.shared_weights + out.token);
    return out;
  };
  int32_t row = blockIdx.x;
  NormSource source = find(row);
  hopper::wait_for_previous_kernel();
  uint4 next[kPerThread] = {}, next_delta[kDeltas][kPerThread] = {};
  const auto load = [&](int32_t row) {
    if (row >= rows) return;
#pragma unroll
    for (int k = 0; k < kDeltas; ++k) {
      if (kExperts ? k >= p.top_k : !p.delta) break;
      const int64_t delta_row = kExperts ? __shfl_sync(~0u, source.expert_row, k) : source.token;
#pragma unroll
      for (int i = 0; i < kPerThread; ++i) {
        const int at = threadIdx.x + i * blockDim.x;
        if (at < vectors) next_delta[k][i] = load16(p.delta + delta_row * p.hidden + at * kVector);
      }
    }
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      const int at = threadIdx.x + i * blockDim.x;
      if (at < vectors) next[i] = load16(p.residual + int64_t{source.token} * p.hidden + at * kVector);
    }
  };
  load(row);
  for (int turn = 0; row < rows; row += gridDim.x, turn ^= 1) {
    const NormSource here = source;
    source = find(row + gridDim.x);
    // Channels [8 at, 8 at + 8) of the experts' sum, rounded as it would be in memory.
    const auto sum_experts = [&](int i, int at, float(&x)[8]) {
      float sum[8] = {};
      const auto add = [&](float weight, const uint4& bits) {
        float v[8];
        unpack8<T>(bits, v);
#pragma unroll
        for (int j = 0; j < 8; ++j) sum[j] = fmaf(weight, v[j], sum[j]);
      };
      const auto weight_of = [&](int k) { return __shfl_sync(~0u, here.expert_weight, k); };
#pragma unroll
      for (int k = 0; k < kDeltas; ++k) {
        if (k < p.top_k) add(weight_of(k), next_delta[k][i]);
      }
#pragma unroll 1
      for (int k = kDeltas; k < p.top_k; ++k) {
        const int64_t expert_row = __shfl_sync(~0u, here.expert_row, k);
        add(weight_of(k), at < vectors ? load16(p.delta + expert_row * p.hidden + at * kVector) : uint4{});
      }
      if (p.shared) {
        add(here.shared_weight,
            at < vectors ? load16(p.shared + int64_t{here.token} * p.hidden + at * kVector) : uint4{});
      }
      unpack8<T>(pack8<T>(sum), x);
    };
    uint4 sum[kPerThread];  // of residual and delta
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      const int at = threadIdx.x + i * blockDim.x;
      float x[8];
      unpack8<T>(next[i], x);
      sum[i] = next[i];
      if (kExperts || p.delta) {
        float delta[8];
        if constexpr (kExperts) {
          sum_experts(i, at, delta);
        } else {
          unpack8<T>(next_delta[0][i], delta);
        }
#pragma unroll
        for (int j = 0; j < 8; ++j) x[j] += delta[j];
        sum[i] = pack8<T>(x);
        unpack8<T>(sum[i], x);
      }
      if (p.sum && at < vectors) store16(p.sum + int64_t{row} * p.hidden + at * kVector, sum[i]);
      float squares = 0.0f;
#pragma unroll
      for (float v : x) squares = fmaf(v, v, squares);
      squares = warp_sum(squares);
      if (lane == 0) sums[turn][i * warps + threadIdx.x / 32] = squares;
    }
    load(row + gridDim.x);
    __syncthreads();
    float total = 0.0f;
    for (int i = 0; i < kPerThread * warps; ++i) total += sums[turn][i];
    const float inverse_rms = __fdiv_rn(1.0f, __fsqrt_rn(__fdiv_rn(total, static_cast<float>(p.hidden)) + p.epsilon));

    const auto normalize = [&](int i, float(&x)[8]) {
      unpack8<T>(sum[i], x);
#pragma unroll
      for (int j = 0; j < 8; ++j) x[j] = x[j] * inverse_rms * weight[i][j];
    };
    Fp8Scale row_scale{};
    if constexpr (kScales == NormScales::kRow) {
      float largest = 0.0f;
#pragma unroll
      for (int i = 0; i < kPerThread; ++i) {
        float x[8];
        normalize(i, x);
        largest = fmaxf(largest, max_abs8(x));
      }
      row_scale = fp8_scale(block_max(largest), kRowE4M3Max);
      if (threadIdx.x == 0) p.out_scales[row] = row_scale.scale;
    }
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      const int at = threadIdx.x + i * blockDim.x;
      const bool inside = at < vectors;
      const int64_t element = int64_t{row} * p.hidden + at * kVector;
      float x[8];
      normalize(i, x);
      if constexpr (kScales == NormScales::kRow) {
        if (inside) *reinterpret_cast<uint2*>(p.out_e4m3 + element) = quantize8(x, row_scale.inverse);
      } else if constexpr (kScales == NormScales::kGroups) {
        const QuantizedVector q = quantize_group(x);
        if (inside) *reinterpret_cast<uint2*>(p.out_e4m3 + element) = q.bits;
        if (inside && at % kGroupLanes == 0) p.out_scales[at / kGroupLanes * p.scale_stride + row] = q.scale;
      }
      if (!inside) continue;
      const uint4 bits = pack8<T>(x);
      if (p.out_act) store16(p.out_act + element, bits);
      if (p.out_act_too) store16(p.out_act_too + element, bits);
    }
  }
}

}  // namespace hearth::cuda
