// dispatch: a token's activation, read once, goes to the rows of its experts: quantized to e4m3 with scales, or copied.
// Without routing the row is the token's own: that is `quantize`. Where a row has one scale a block takes a whole row.
#pragma once

#include "cuda/hopper/cluster.cuh"
#include "cuda/kernels/vector.cuh"

namespace hearth::cuda {

template <typename T>
struct DispatchParams {
  const T* x;           // [tokens, hidden]
  const int32_t* rows;  // [tokens, top_k], or null: the token's own row
  void* out;            // [rows, hidden] T or e4m3
  float* scales;        // where e4m3: [hidden / 128, scale_stride], or [rows]
  int64_t scale_stride;
  const int32_t* num_rows;
  int rows_each;  // how many rows one of *num_rows stands for
  int hidden;
  int top_k;
};

// A block takes a token (x) and up to kRowThreads vectors of its row (y).
template <typename T, bool kQuantize>
__global__ __launch_bounds__(kRowThreads) void dispatch_kernel(const DispatchParams<T> p) {
  hopper::wait_for_previous_kernel();
  hopper::start_next_kernel();
  const int64_t token = blockIdx.x;
  if (p.num_rows && token >= int64_t{*p.num_rows} * p.rows_each) return;
  const int at = blockIdx.y * kRowThreads + threadIdx.x;
  const bool inside = at * kVector < p.hidden;
  uint4 bits{};
  if (inside) bits = load16(p.x + token * p.hidden + at * kVector);
  QuantizedVector q;
  if constexpr (kQuantize) {
    float v[8];
    unpack8<T>(bits, v);
    q = quantize_group(v);
  }
  if (!inside) return;
  for (int k = 0; k < p.top_k; ++k) {
    const int64_t row = p.rows ? p.rows[token * p.top_k + k] : token;
    const int64_t element = row * p.hidden + at * kVector;
    if constexpr (kQuantize) {
      *reinterpret_cast<uint2*>(static_cast<uint8_t*>(p.out) + element) = q.bits;
      if (at % kGroupLanes == 0) p.scales[at / kGroupLanes * p.scale_stride + row] = q.scale;
    } else {
      store16(static_cast<T*>(p.out) + element, bits);
    }
  }
}

constexpr int kRowQuantizeThreads = 512;

template <typename T, int kPerThread>
__global__ __launch_bounds__(kRowQuantizeThreads) void dispatch_row_kernel(const DispatchParams<T> p) {
  hopper::wait_for_previous_kernel();
  hopper::start_next_kernel();
  const int64_t token = blockIdx.x;
  if (p.num_rows && token >= int64_t{*p.num_rows} * p.rows_each) return;
  const int vectors = p.hidden / kVector;
  float v[kPerThread][8] = {};
  float largest = 0.0f;
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    const int at = threadIdx.x + i * blockDim.x;
    if (at < vectors) load8(p.x + token * p.hidden + at * kVector, v[i]);
    largest = fmaxf(largest, max_abs8(v[i]));
  }
  const Fp8Scale scale = fp8_scale(block_max(largest));
  for (int k = 0; k < p.top_k; ++k) {
    const int64_t row = p.rows ? p.rows[token * p.top_k + k] : token;
    if (threadIdx.x == 0) p.scales[row] = scale.scale;
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      const int at = threadIdx.x + i * blockDim.x;
      if (at >= vectors) continue;
      auto* out = static_cast<uint8_t*>(p.out) + row * p.hidden + at * kVector;
      *reinterpret_cast<uint2*>(out) = quantize8(v[i], scale.inverse);
    }
  }
}

}  // namespace hearth::cuda
