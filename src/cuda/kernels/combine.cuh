// combine: a block a token; each thread sums its channels over the token's experts, in their order.
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

template <typename T, int kPerThread>
__global__ void combine_kernel(const CombineParams<T> p) {
  hopper::wait_for_previous_kernel();
  hopper::start_next_kernel();
  const int64_t token = blockIdx.x;
  if (p.num_rows && token >= *p.num_rows) return;
  float sum[kPerThread][8] = {};
#pragma unroll 4
  for (int k = 0; k < p.top_k; ++k) {
    const float weight = p.weights[token * p.top_k + k];
    const T* row = p.expert_out + static_cast<int64_t>(p.rows[token * p.top_k + k]) * p.hidden;
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      const int at = (threadIdx.x + i * blockDim.x) * kVector;
      if (at >= p.hidden) continue;
      float v[8];
      load8(row + at, v);
#pragma unroll
      for (int j = 0; j < 8; ++j) sum[i][j] = __fadd_rn(sum[i][j], __fmul_rn(weight, v[j]));
    }
  }
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    const int at = (threadIdx.x + i * blockDim.x) * kVector;
    if (at < p.hidden) store16(p.out + token * p.hidden + at, pack8<T>(sum[i]));
  }
}

}  // namespace hearth::cuda
