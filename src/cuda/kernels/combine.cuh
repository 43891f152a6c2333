// combine: each thread sums eight channels of a token over its experts, in their order.
#pragma once

#include "cuda/hopper/cluster.cuh"
#include "cuda/kernels/vector.cuh"

namespace hearth::cuda {

template <typename T>
struct CombineParams {
  const T* expert_out;   // [rows, hidden]
  const int32_t* rows;   // [tokens, top_k]
  const float* weights;  // [tokens, top_k]
  T* out;                // [tokens, hidden]
  const int32_t* num_rows;
  int hidden;
  int top_k;
};

// A block takes a token (x) and up to kRowThreads vectors of its row (y).
template <typename T>
__global__ __launch_bounds__(kRowThreads) void combine_kernel(const CombineParams<T> p) {
  hopper::wait_for_previous_kernel();
  hopper::start_next_kernel();
  const int64_t token = blockIdx.x;
  const int at = (blockIdx.y * kRowThreads + threadIdx.x) * kVector;
  if ((p.num_rows && token >= *p.num_rows) || at >= p.hidden) return;
  float sum[8] = {};
#pragma unroll 4
  for (int k = 0; k < p.top_k; ++k) {
    const float weight = p.weights[token * p.top_k + k];
    float v[8];
    load8(p.expert_out + static_cast<int64_t>(p.rows[token * p.top_k + k]) * p.hidden + at, v);
#pragma unroll
    for (int j = 0; j < 8; ++j) sum[j] = fmaf(weight, v[j], sum[j]);
  }
  store16(p.out + token * p.hidden + at, pack8<T>(sum));
}

}  // namespace hearth::cuda
