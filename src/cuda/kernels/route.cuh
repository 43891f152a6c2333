// route: a block takes a few tokens; its threads share out K, so that the gate's rows are read once a block and a logit
// is summed in an order that depends on `hidden` alone. A warp a token then picks its experts. The block that finishes
// last counts the pairs of each expert and gives every pair its row: expert by expert, tokens in order.
#pragma once

#include "cuda/hopper/cluster.cuh"
#include "cuda/kernels/vector.cuh"

namespace hearth::cuda {

constexpr int kRouteThreads = 256;
constexpr int kRouteWarps = kRouteThreads / 32;
constexpr int kMaxExperts = 256;
constexpr int kRouteChunk = 8;  // experts whose logits a thread sums side by side

template <typename T, typename Gate>
struct RouteParams {
  const T* x;          // [tokens, hidden]
  const Gate* gate;    // [experts, hidden]
  int32_t* experts;    // [tokens, top_k]
  float* weights;      // [tokens, top_k]
  int32_t* rows;       // [tokens, top_k]
  int32_t* starts;     // [experts]
  int32_t* ends;       // [experts]
  uint32_t* finished;  // blocks that are done; 0 between launches
  const int32_t* num_rows;
  int64_t tokens;
  int hidden, num_experts, top_k;
  bool renormalize;
};

// Sums each of 8 values over the warp, lanes i and i ^ 16 first. Lane l ends with value l / 4.
__device__ __forceinline__ float warp_sum8(float (&v)[8]) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int offset = 16, count = 4; count > 0; offset /= 2, count /= 2) {
    const bool upper = lane & offset;
#pragma unroll
    for (int i = 0; i < count; ++i) {
      const float kept = upper ? v[i + count] : v[i];
      const float sent = upper ? v[i] : v[i + count];
      v[i] = kept + __shfl_xor_sync(~0u, sent, offset);
    }
  }
  v[0] += __shfl_xor_sync(~0u, v[0], 2);
  return v[0] + __shfl_xor_sync(~0u, v[0], 1);
}

// One warp: softmax over a token's logits, the top_k largest probabilities, ties to the lower index.
template <typename T, typename Gate>
__device__ void choose_experts(const RouteParams<T, Gate>& p, const float* logits, int64_t token) {
  constexpr int kSlots = kMaxExperts / 32;
  const int lane = threadIdx.x % 32;
  float probability[kSlots];
  float largest = -INFINITY;
#pragma unroll
  for (int i = 0; i < kSlots; ++i) {
    probability[i] = lane + 32 * i < p.num_experts ? logits[lane + 32 * i] : -INFINITY;
    largest = fmaxf(largest, probability[i]);
  }
  largest = lanes_max<32>(largest);
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kSlots; ++i) {
    probability[i] = lane + 32 * i < p.num_experts ? expf(probability[i] - largest) : 0.0f;
    sum += probability[i];
  }
  sum = warp_sum(sum);

  float chosen_sum = 0.0f, my_weight = 0.0f;
  int my_expert = 0;
  uint32_t taken = 0;  // bit i: expert lane + 32 * i is chosen
  for (int k = 0; k < p.top_k; ++k) {
    uint32_t best = 0;  // order + 1, so that a NaN still beats an expert that is taken
    int best_slot = 0;
#pragma unroll
    for (int i = 0; i < kSlots; ++i) {
      if (lane + 32 * i >= p.num_experts || (taken >> i & 1)) continue;
      const uint32_t order = float_order(probability[i]) + 1;
      if (order > best) best = order, best_slot = i;
    }
    const uint32_t top = __reduce_max_sync(~0u, best);
    const uint32_t candidate = best == top ? lane + 32 * best_slot : ~0u;
    const uint32_t expert = __reduce_min_sync(~0u, candidate);
    float value = 0.0f;
#pragma unroll
    for (int i = 0; i < kSlots; ++i) {
      if (expert == lane + 32 * i) taken |= 1u << i, value = probability[i];
    }
    value = __shfl_sync(~0u, value, expert % 32) / sum;
    chosen_sum += value;
    if (lane == k) my_expert = static_cast<int>(expert), my_weight = value;
  }
  if (lane < p.top_k) {
    p.experts[token * p.top_k + lane] = my_expert;
    p.weights[token * p.top_k + lane] = p.renormalize ? my_weight / chosen_sum : my_weight;
  }
}

// One block: warps take equal runs of pairs, count them, and number them from where their expert's earlier pairs end.
template <typename T, typename Gate>
__device__ void place_rows(const RouteParams<T, Gate>& p, int64_t tokens, uint32_t (*counts)[kMaxExperts]) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t pairs = tokens * p.top_k;
  const int64_t run = ceil_div(ceil_div(pairs, kRouteWarps), 32) * 32;
  const int64_t begin = min(warp * run, pairs), end = min(begin + run, pairs);
  for (int e = lane; e < p.num_experts; e += 32) counts[warp][e] = 0;
  __syncwarp();
  // The lanes of one expert count themselves; the lowest of them writes. Loads are made eight at a time: each costs a
  // trip to the L2 cache.
  const auto for_pairs = [&](auto use) {
    constexpr int kAhead = 8;
    for (int64_t base = begin; base < end; base += 32 * kAhead) {
      int expert[kAhead];
#pragma unroll
      for (int j = 0; j < kAhead; ++j) {
        const int64_t i = base + 32 * j + lane;
        expert[j] = i < end ? __ldcg(p.experts + i) : -1;
      }
#pragma unroll
      for (int j = 0; j < kAhead; ++j) {
        if (base + 32 * j < end) use(base + 32 * j + lane, expert[j], __match_any_sync(~0u, expert[j]));
      }
    }
  };
  const uint32_t lanes_before = (1u << lane) - 1;
  for_pairs([&](int64_t, int e, uint32_t same) {
    if (e >= 0 && (same & lanes_before) == 0) counts[warp][e] += __popc(same);
    __syncwarp();
  });
  __syncthreads();
  // Exclusive sums: over warps within an expert, then over experts.
  __shared__ uint32_t totals[kMaxExperts];
  for (int e = threadIdx.x; e < p.num_experts; e += kRouteThreads) {
    uint32_t total = 0;
    for (int w = 0; w < kRouteWarps; ++w) {
      const uint32_t count = counts[w][e];
      counts[w][e] = total;
      total += count;
    }
    totals[e] = total;
  }
  __syncthreads();
  if (warp == 0) {
    uint32_t before = 0;
    for (int base = 0; base < p.num_experts; base += 32) {
      const int e = base + lane;
      const uint32_t own = e < p.num_experts ? totals[e] : 0;
      uint32_t upto = own;
#pragma unroll
      for (int offset = 1; offset < 32; offset *= 2) {
        const uint32_t left = __shfl_up_sync(~0u, upto, offset);
        if (lane >= offset) upto += left;
      }
      if (e < p.num_experts) {
        totals[e] = before + upto - own;
        p.starts[e] = static_cast<int32_t>(before + upto - own);
        p.ends[e] = static_cast<int32_t>(before + upto);
      }
      before += __shfl_sync(~0u, upto, 31);
    }
  }
  __syncthreads();
  for_pairs([&](int64_t i, int e, uint32_t same) {
    const uint32_t earlier = same & lanes_before;
    uint32_t row = 0;
    if (e >= 0) row = totals[e] + counts[warp][e] + __popc(earlier);
    __syncwarp();
    if (e >= 0 && earlier == 0) counts[warp][e] += __popc(same);
    __syncwarp();
    if (e >= 0) p.rows[i] = static_cast<int32_t>(row);
  });
}

template <typename T, typename Gate, int kTokens>
__global__ __launch_bounds__(kRouteThreads, 2) void route_kernel(const RouteParams<T, Gate> p) {
  __shared__ float partial[kRouteWarps][kTokens * kRouteChunk];
  __shared__ float logits[kTokens][kMaxExperts];
  __shared__ uint32_t counts[kRouteWarps][kMaxExperts];
  __shared__ bool is_last;
  hopper::wait_for_previous_kernel();
  hopper::start_next_kernel();
  const int64_t tokens = p.num_rows ? min(p.tokens, static_cast<int64_t>(*p.num_rows)) : p.tokens;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kTokens;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;

  for (int chunk = 0; first < tokens && chunk < p.num_experts; chunk += kRouteChunk) {
    float sum[kTokens][kRouteChunk] = {};
    for (int at = threadIdx.x * kVector; at < p.hidden; at += kRouteThreads * kVector) {
      float x[kTokens][8];
#pragma unroll
      for (int t = 0; t < kTokens; ++t) load8(p.x + min(first + t, tokens - 1) * p.hidden + at, x[t]);
#pragma unroll
      for (int e = 0; e < kRouteChunk; ++e) {
        float gate[8];
        load8(p.gate + static_cast<int64_t>(min(chunk + e, p.num_experts - 1)) * p.hidden + at, gate);
#pragma unroll
        for (int t = 0; t < kTokens; ++t) {
#pragma unroll
          for (int i = 0; i < 8; ++i) sum[t][e] = fmaf(x[t][i], gate[i], sum[t][e]);
        }
      }
    }
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      const float total = warp_sum8(sum[t]);
      if (lane % 4 == 0) partial[warp][t * kRouteChunk + lane / 4] = total;
    }
    __syncthreads();
    if (threadIdx.x < kTokens * kRouteChunk) {
      float total = 0.0f;
#pragma unroll
      for (int w = 0; w < kRouteWarps; ++w) total += partial[w][threadIdx.x];
      logits[threadIdx.x / kRouteChunk][chunk + threadIdx.x % kRouteChunk] = total;
    }
    __syncthreads();
  }
  if (warp < kTokens && first + warp < tokens) choose_experts(p, logits[warp], first + warp);

  __syncthreads();
  if (gridDim.x == 1) return place_rows(p, tokens, counts);
  if (threadIdx.x == 0) {
    __threadfence();
    is_last = atomicAdd(p.finished, 1u) == gridDim.x - 1;
    if (is_last) *p.finished = 0;
    __threadfence();
  }
  __syncthreads();
  if (is_last) place_rows(p, tokens, counts);
}

}  // namespace hearth::cuda
