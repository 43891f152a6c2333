// norm: a block a row, the row in registers: residual add, RMS over the block, then the result in e4m3 with scales, in
// 16 bit, or both. One read and one write of each tensor.
#pragma once

#include "cuda/hopper/cluster.cuh"
#include "cuda/kernels/vector.cuh"

namespace hearth::cuda {

template <typename T>
struct NormParams {
  T* residual;
  const T* delta;  // or null
  const float* weight;
  T* out_act;         // or null; where the consumer wants 16 bit, its input too
  T* out_act_too;     // or null
  uint8_t* out_e4m3;  // or null
  float* out_scales;  // [hidden / 128, scale_stride], or [rows] where a row has one scale
  bool row_scales;
  int64_t scale_stride;
  const int32_t* num_rows;
  int hidden;
  float epsilon;
};

constexpr int kNormThreads = 512;

template <typename T, int kPerThread>
__global__ __launch_bounds__(kNormThreads) void norm_kernel(const NormParams<T> p) {
  __shared__ float sums[32];
  const int vectors = p.hidden / kVector;
  float weight[kPerThread][8];  // not written by any kernel: read ahead of the kernel before us
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    const int at = threadIdx.x + i * blockDim.x;
    if (at < vectors) load8(p.weight + at * kVector, weight[i]);
  }
  hopper::wait_for_previous_kernel();
  hopper::start_next_kernel();
  const int64_t row = blockIdx.x;
  if (p.num_rows && row >= *p.num_rows) return;

  float x[kPerThread][8] = {};
  float squares = 0.0f;
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    const int at = threadIdx.x + i * blockDim.x;
    if (at >= vectors) continue;
    T* residual = p.residual + row * p.hidden + at * kVector;
    load8(residual, x[i]);
    if (p.delta) {
      float delta[8];
      load8(p.delta + row * p.hidden + at * kVector, delta);
#pragma unroll
      for (int j = 0; j < 8; ++j) x[i][j] += delta[j];
      const uint4 rounded = pack8<T>(x[i]);
      store16(residual, rounded);
      unpack8<T>(rounded, x[i]);
    }
#pragma unroll
    for (float v : x[i]) squares = fmaf(v, v, squares);
  }
  squares = warp_sum(squares);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = squares;
  __syncthreads();
  float total = 0.0f;
  for (int i = 0; i < blockDim.x / 32; ++i) total += sums[i];
  const float inverse_rms = __fdiv_rn(1.0f, __fsqrt_rn(__fdiv_rn(total, static_cast<float>(p.hidden)) + p.epsilon));

  float largest = 0.0f;
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    const bool inside = threadIdx.x + i * blockDim.x < vectors;
#pragma unroll
    for (int j = 0; j < 8; ++j) x[i][j] = inside ? x[i][j] * inverse_rms * weight[i][j] : 0.0f;
    largest = fmaxf(largest, max_abs8(x[i]));
  }
  Fp8Scale row_scale{};
  if (p.row_scales) {
    row_scale = fp8_scale(block_max(largest));
    if (threadIdx.x == 0) p.out_scales[row] = row_scale.scale;
  }
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    const int at = threadIdx.x + i * blockDim.x;
    const bool inside = at < vectors;
    const int64_t element = row * p.hidden + at * kVector;
    if (p.row_scales) {
      if (inside) *reinterpret_cast<uint2*>(p.out_e4m3 + element) = quantize8(x[i], row_scale.inverse);
    } else if (p.out_e4m3) {
      const QuantizedVector q = quantize_group(x[i]);
      if (inside) *reinterpret_cast<uint2*>(p.out_e4m3 + element) = q.bits;
      if (inside && at % kGroupLanes == 0) p.out_scales[at / kGroupLanes * p.scale_stride + row] = q.scale;
    }
    if (!inside) continue;
    const uint4 bits = pack8<T>(x[i]);
    if (p.out_act) store16(p.out_act + element, bits);
    if (p.out_act_too) store16(p.out_act_too + element, bits);
  }
}

}  // namespace hearth::cuda
