// route: a block takes a few tokens; its threads share out K, so that the gate's rows are read once a block and a logit
// is summed in an order that depends on `hidden` alone. A warp a token then picks its experts. The block that finishes
// last counts the pairs of each expert and gives every pair its row: expert by expert, tokens in order.
#pragma once

#include "cuda/hopper/cluster.cuh"
#include "cuda/kernels/true_rows.cuh"
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

// Spread over the grid.
template <typename T>
__device__ __forceinline__ void prefetch_to_l2(const T* p, int64_t n) {
  constexpr int kLine = 128 / sizeof(T);
  for (int64_t i = blockIdx.x * blockDim.x + threadIdx.x; i * kLine < n; i += gridDim.x * blockDim.x) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(p + i * kLine));
  }
}

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

// Of this lane's value and those of the lanes before it.
__device__ __forceinline__ uint32_t warp_prefix_sum(uint32_t v) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int offset = 1; offset < 32; offset *= 2) {
    const uint32_t left = __shfl_up_sync(~0u, v, offset);
    if (lane >= offset) v += left;
  }
  return v;
}

// One warp: softmax over a token's logits, the top_k largest probabilities, ties to the lower index. A lane has kSlots
// of the experts.
template <int kSlots, typename T, typename Gate>
__device__ __forceinline__ void choose_experts(const RouteParams<T, Gate>& p, const float* logits, int token) {
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
#pragma unroll 1
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
template <int kAhead, typename T, typename Gate>
__device__ __forceinline__ void place_rows(const RouteParams<T, Gate>& p, int tokens) {
  __shared__ uint32_t counts[kRouteWarps][kMaxExperts], totals[kMaxExperts];
  __shared__ int32_t ahead[kAhead][kRouteThreads];  // experts of a thread's next pairs
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int pairs = tokens * p.top_k;
  const int run = ceil_div(ceil_div(pairs, kRouteWarps), 32) * 32;
  const int begin = min(warp * run, pairs), end = min(begin + run, pairs);
  for (int e = lane; e < p.num_experts; e += 32) counts[warp][e] = 0;
  __syncwarp();
#pragma unroll 1  // one code for both, loops rolled: a step finds none of it in the caches
  for (bool numbering = false;; numbering = true) {
#pragma unroll 1
    for (int base = begin; base < end; base += 32 * kAhead) {
      if (!numbering || run > 32 * kAhead) {  // else they are still there
#pragma unroll
        for (int j = 0; j < kAhead; ++j) {
          const int i = base + 32 * j + lane;
          ahead[j][threadIdx.x] = i < end ? __ldcg(p.experts + i) : -1;
        }
      }
#pragma unroll 1
      for (int j = 0; j < kAhead && base + 32 * j < end; ++j) {
        // The lanes of one expert count themselves; the lowest of them writes.
        const int e = ahead[j][threadIdx.x];
        const uint32_t same = __match_any_sync(~0u, e), earlier = same & ((1u << lane) - 1);
        if (e >= 0 && numbering) {
          p.rows[base + 32 * j + lane] = static_cast<int32_t>(totals[e] + counts[warp][e] + __popc(earlier));
        }
        __syncwarp();
        if (e >= 0 && earlier == 0) counts[warp][e] += __popc(same);
        __syncwarp();
      }
    }
    if (numbering) break;
    __syncthreads();
    // Exclusive sums: over warps within an expert, then over experts.
#pragma unroll 1
    for (int e = warp; e < p.num_experts; e += kRouteWarps) {
      const uint32_t own = lane < kRouteWarps ? counts[lane][e] : 0, upto = warp_prefix_sum(own);
      if (lane < kRouteWarps) counts[lane][e] = upto - own;
      if (lane == 31) totals[e] = upto;
    }
    __syncthreads();
    if (warp == 0) {
      uint32_t before = 0;
#pragma unroll 1
      for (int base = 0; base < p.num_experts; base += 32) {
        const int e = base + lane;
        const uint32_t own = e < p.num_experts ? totals[e] : 0, upto = before + warp_prefix_sum(own);
        if (e < p.num_experts) {
          totals[e] = upto - own;
          p.starts[e] = static_cast<int32_t>(upto - own);
          p.ends[e] = static_cast<int32_t>(upto);
        }
        before = __shfl_sync(~0u, upto, 31);
      }
    }
    __syncthreads();
  }
}

template <typename T, typename Gate, int kTokens, int kSlots>
__global__ __launch_bounds__(kRouteThreads, 2) void route_kernel(const RouteParams<T, Gate> p) {
  hopper::start_next_kernel();
  __shared__ float partial[kRouteWarps][kTokens * kRouteChunk];
  __shared__ float logits[kTokens][kMaxExperts];
  __shared__ bool is_last;
  const auto tokens = static_cast<int>(true_rows(p.num_rows, p.tokens));
  const int first = static_cast<int>(blockIdx.x) * kTokens;
  const auto gate_at = [&](int expert, int at) {
    return p.gate + static_cast<int64_t>(min(expert, p.num_experts - 1)) * p.hidden + at;
  };
  constexpr int kStride = kRouteThreads * kVector;
  // The gate is not written by any kernel: in small steps, where latency is all, the first experts' rows are in
  // registers before the kernel before us ends.
  constexpr int kAhead = kTokens == 1 && sizeof(Gate) == 2 ? 2 : 0;
  uint4 ahead[kAhead + 1][kRouteChunk];
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    const int at = threadIdx.x * kVector + i * kStride;
#pragma unroll
    for (int e = 0; e < kRouteChunk; ++e) ahead[i][e] = at < p.hidden ? load16(gate_at(e, at)) : uint4{};
  }
  prefetch_to_l2(p.gate, int64_t{p.num_experts} * p.hidden);
  hopper::wait_for_previous_kernel();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;

  const auto add = [&](const float(&x)[8], const float(&gate)[8], float& to) {
#pragma unroll
    for (int i = 0; i < 8; ++i) to = fmaf(x[i], gate[i], to);
  };
  float begun[kTokens][kRouteChunk] = {};  // sums of the first experts
  if (kAhead > 0 && first < tokens) {
    uint4 bits[kAhead + 1];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int at = threadIdx.x * kVector + i * kStride;
      bits[i] = at < p.hidden ? load16(p.x + int64_t{first} * p.hidden + at) : uint4{};
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      float x[8];
      unpack8<T>(bits[i], x);
#pragma unroll
      for (int e = 0; e < kRouteChunk; ++e) {
        float gate[8];
        unpack8<T>(ahead[i][e], gate);
        add(x, gate, begun[0][e]);
      }
    }
  }

#pragma unroll 1
  for (int chunk = 0; first < tokens && chunk < p.num_experts; chunk += kRouteChunk) {
    float sum[kTokens][kRouteChunk];
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
#pragma unroll
      for (int e = 0; e < kRouteChunk; ++e) sum[t][e] = chunk == 0 ? begun[t][e] : 0.0f;
    }
    int at = threadIdx.x * kVector + (chunk == 0 ? kAhead * kStride : 0);
#pragma unroll 1
    for (; at < p.hidden; at += kStride) {
      float x[kTokens][8];
#pragma unroll
      for (int t = 0; t < kTokens; ++t) load8(p.x + int64_t{min(first + t, tokens - 1)} * p.hidden + at, x[t]);
#pragma unroll
      for (int e = 0; e < kRouteChunk; ++e) {
        float gate[8];
        load8(gate_at(chunk + e, at), gate);
#pragma unroll
        for (int t = 0; t < kTokens; ++t) add(x[t], gate, sum[t][e]);
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
  if (warp < kTokens && first + warp < tokens) choose_experts<kSlots>(p, logits[warp], first + warp);

  __syncthreads();
  if (gridDim.x > 1) {
    if (threadIdx.x == 0) {
      uint32_t before_us;  // the last block sees what the others stored before this
      asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;" : "=r"(before_us) : "l"(p.finished) : "memory");
      is_last = before_us == gridDim.x - 1;
      if (is_last) *p.finished = 0;
    }
    __syncthreads();
    if (!is_last) return;
  }
  place_rows<2 * kTokens>(p, tokens);
}

}  // namespace hearth::cuda
