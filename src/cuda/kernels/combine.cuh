// combine: each thread sums eight channels of a token over its experts, in their order.
#pragma once

#include "cuda/hopper/cluster.cuh"
#include "cuda/kernels/true_rows.cuh"
#include "cuda/kernels/vector.cuh"

namespace hearth::cuda {

template <typename T>
struct CombineParams {
  const T* expert_out;   // [rows, hidden]
  const int32_t* rows;   // [tokens, top_k]
  const float* weights;  // [tokens, top_k]
  T* out;                // [tokens, hidden]
  const int32_t* num_rows;
  int64_t tokens;
  int hidden;
  int top_k;
};

// A block takes a token (x) and up to kRowThreads vectors of its row (y). Where the token's rows are was decided before
// the kernel before us: lane k of each warp has that of expert k ahead of it.
template <typename T>
__global__ __launch_bounds__(kRowThreads) void combine_kernel(const CombineParams<T> p) {
  const int64_t token = blockIdx.x, tokens = true_rows(p.num_rows, p.tokens);
  const int lane = threadIdx.x % 32;
  int32_t my_row = 0;
  float my_weight = 0.0f;
  if (lane < p.top_k) {
    my_row = __ldcg(p.rows + token * p.top_k + lane);
    my_weight = __ldcg(p.weights + token * p.top_k + lane);
  }
  hopper::wait_for_previous_kernel();
  hopper::start_next_kernel();
  if (token >= tokens) return;
  const int at = (blockIdx.y * kRowThreads + threadIdx.x) * kVector;
  float sum[8] = {};
#pragma unroll 4
  for (int k = 0; k < p.top_k; ++k) {
    const float weight = __shfl_sync(~0u, my_weight, k);
    const int64_t row = __shfl_sync(~0u, my_row, k);
    if (at >= p.hidden) continue;
    float v[8];
    load8(p.expert_out + row * p.hidden + at, v);
#pragma unroll
    for (int j = 0; j < 8; ++j) sum[j] = fmaf(weight, v[j], sum[j]);
  }
  if (at < p.hidden) store16(p.out + token * p.hidden + at, pack8<T>(sum));
}

}  // namespace hearth::cuda
