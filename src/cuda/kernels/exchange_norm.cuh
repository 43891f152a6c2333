// The sum over ranks of few rows, the residual add and the norm in one kernel: a block takes a row, sends its own part
// of it, and goes on with what it receives, in registers. As all_reduce_few_kernel and norm_kernel one behind the
// other, to the bit.
#pragma once

#include "cuda/kernels/exchange.cuh"
#include "cuda/kernels/norm.cuh"

namespace hearth::cuda {

constexpr int kExchangeNormThreads = 512;

// kPerThread vectors of a row a thread. Of NormParams: a row of the output is the residual's, and delta is the sum.
template <typename T, int kMost, int kPerThread>
__global__ __launch_bounds__(kExchangeNormThreads) void all_reduce_norm_kernel(
    const AllReduceParams<T> a, const NormParams<T> n, const __grid_constant__ ExchangeParams x) {
  __shared__ float sums[2][kPerThread * kExchangeNormThreads / 32];
  const int warps = blockDim.x / 32, lane = threadIdx.x % 32;
  const auto rows = static_cast<int>(true_rows(a.num_rows, a.rows));
  float weight[kPerThread][8] = {};
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    const int at = threadIdx.x + i * blockDim.x;
    if (at < a.vectors) load8(n.weight + at * kVector, weight[i]);
  }
  hopper::wait_for_previous_kernel();
  hopper::start_next_kernel();
  if (rows == 0) return;
  FewVectors vectors(x, begin_call(x));
  const auto own = [&](int64_t i) { return a.top_k > 0 ? own_vector<T, true>(a, i) : own_vector<T, false>(a, i); };
  // All of a block's rows are on their way before it waits for the first.
  for (int row = blockIdx.x; row < rows; row += kExchangeBlocks) {
    for (int at = threadIdx.x; at < a.vectors; at += blockDim.x) {
      const int64_t i = int64_t{row} * a.vectors + at;
      const uint4 bits = own(i);
      vectors.send(i, bits);
      if (a.top_k > 0 || a.out != a.delta) store16(a.out + i * kVector, bits);
    }
  }
  for (int row = blockIdx.x, turn = 0; row < rows; row += kExchangeBlocks, turn ^= 1) {
    uint4 residual[kPerThread] = {};
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      const int at = threadIdx.x + i * blockDim.x;
      float v[8] = {};
      if (at < a.vectors) {
        const int64_t element = (int64_t{row} * a.vectors + at) * kVector;
        residual[i] = load16(n.residual + element);
        const uint4 mine = load16(a.out + element);
        uint4 from[kMost];
        vectors.receive<kMost>(int64_t{row} * a.vectors + at, from);
        float sum[8] = {};
#pragma unroll
        for (int r = 0; r < kMost; ++r) {
          if (r < x.size) add_vector<T>(r == x.rank ? mine : from[r], sum);
        }
        float delta[8];
        unpack8<T>(pack8<T>(sum), delta);
        unpack8<T>(residual[i], v);
#pragma unroll
        for (int j = 0; j < 8; ++j) v[j] += delta[j];
        residual[i] = pack8<T>(v);
        unpack8<T>(residual[i], v);
        store16(n.sum + element, residual[i]);
      }
      float squares = 0.0f;
#pragma unroll
      for (float value : v) squares = fmaf(value, value, squares);
      squares = warp_sum(squares);
      if (lane == 0) sums[turn][i * warps + threadIdx.x / 32] = squares;
    }
    __syncthreads();
    float total = 0.0f;
    for (int i = 0; i < kPerThread * warps; ++i) total += sums[turn][i];
    const float inverse_rms = __fdiv_rn(1.0f, __fsqrt_rn(__fdiv_rn(total, static_cast<float>(n.hidden)) + n.epsilon));
    const auto normalize = [&](int i, float(&v)[8]) {
      unpack8<T>(residual[i], v);
#pragma unroll
      for (int j = 0; j < 8; ++j) v[j] = v[j] * inverse_rms * weight[i][j];
    };
    Fp8Scale row_scale{1.0f, 1.0f};
    if (n.out_scales) {
      float largest = 0.0f;
#pragma unroll
      for (int i = 0; i < kPerThread; ++i) {
        float v[8];
        normalize(i, v);
        largest = fmaxf(largest, max_abs8(v));
      }
      row_scale = fp8_scale(block_max(largest), kRowE4M3Max);
      __syncthreads();  // block_max's memory is free again
      if (threadIdx.x == 0) n.out_scales[row] = row_scale.scale;
    }
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      const int at = threadIdx.x + i * blockDim.x;
      const bool inside = at < a.vectors;
      const int64_t element = (int64_t{row} * a.vectors + at) * kVector;
      float v[8];
      normalize(i, v);
      if (!inside) continue;
      if (n.out_e4m3) *reinterpret_cast<uint2*>(n.out_e4m3 + element) = quantize8(v, row_scale.inverse);
      const uint4 bits = pack8<T>(v);
      if (n.out_act) store16(n.out_act + element, bits);
      if (n.out_act_too) store16(n.out_act_too + element, bits);
    }
  }
}

}  // namespace hearth::cuda
