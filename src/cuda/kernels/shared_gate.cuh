// The weight of a shared expert, where it has a gate: a warp a token, which sums the product of its row with the gate
// in one order and takes the sigmoid. Runs before route.
#pragma once

#include "cuda/hopper/cluster.cuh"
#include "cuda/kernels/route_choose.cuh"
#include "cuda/kernels/true_rows.cuh"
#include "cuda/kernels/vector.cuh"

namespace hearth::cuda {

constexpr int kSharedGateThreads = 128;

template <typename T>
struct SharedGateParams {
  const T* x;         // [tokens, hidden]
  const float* gate;  // [hidden]
  float* weights;     // [tokens]
  const int32_t* num_rows;
  int64_t tokens;
  int hidden;
};

template <typename T>
__global__ __launch_bounds__(kSharedGateThreads) void shared_gate_kernel(const SharedGateParams<T> p) {
  hopper::start_next_kernel();
  hopper::wait_for_previous_kernel();
  const int64_t token = (int64_t{blockIdx.x} * kSharedGateThreads + threadIdx.x) / 32;
  if (token >= true_rows(p.num_rows, p.tokens)) return;
  const int lane = threadIdx.x % 32;
  float sum = 0.0f;
#pragma unroll 4
  for (int at = lane * kVector; at < p.hidden; at += 32 * kVector) {
    float x[8], gate[8];
    load8(p.x + token * p.hidden + at, x);
    load8(p.gate + at, gate);
#pragma unroll
    for (int i = 0; i < 8; ++i) sum = fmaf(x[i], gate[i], sum);
  }
  sum = warp_sum(sum);
  if (lane == 0) p.weights[token] = sigmoid(sum);
}

}  // namespace hearth::cuda
