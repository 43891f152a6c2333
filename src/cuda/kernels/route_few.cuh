// route for models of few experts, whose gate any block has read at once: a block takes a few tokens; its threads share
// out K, so that the gate's rows are read once a block and a logit is summed in an order that depends on `hidden`
// alone. A warp a token then picks its experts. The block that finishes last counts the pairs of each expert and gives
// every pair its row: expert by expert, tokens in order.
#pragma once

#include "cuda/hopper/cluster.cuh"
#include "cuda/kernels/prefetch.cuh"
#include "cuda/kernels/route_choose.cuh"
#include "cuda/kernels/true_rows.cuh"
#include "cuda/kernels/vector.cuh"

namespace hearth::cuda {

constexpr int kFewThreads = 256;
constexpr int kFewWarps = kFewThreads / 32;
constexpr int kFewExperts = 16;
constexpr int kFewChunk = 8;  // experts whose logits a thread sums side by side

template <typename T, typename Gate>
struct RouteFewParams {
  const T* x;          // [tokens, hidden]
  const Gate* gate;    // [experts, hidden]
  int32_t* experts;    // [tokens, top_k]
  float* weights;      // [tokens, top_k]
  int32_t* rows;       // [tokens, top_k]
  int32_t* starts;     // [experts]
  int32_t* ends;       // [experts]
  uint32_t* finished;  // blocks that are done; 0 between launches
  Choosing choosing;
  const int32_t* num_rows;
  int64_t tokens;
  int hidden;
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

// One block: warps take equal runs of pairs, count them, and number them from where their expert's earlier pairs end.
template <int kAhead, typename T, typename Gate>
__device__ __forceinline__ void place_rows(const RouteFewParams<T, Gate>& p, int tokens) {
  __shared__ uint32_t counts[kFewWarps][kFewExperts], totals[kFewExperts];
  __shared__ int32_t ahead[kAhead][kFewThreads];  // experts of a thread's next pairs
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int pairs = tokens * p.choosing.top_k;
  const int run = ceil_div(ceil_div(pairs, kFewWarps), 32) * 32;
  const int begin = min(warp * run, pairs), end = min(begin + run, pairs);
  for (int e = lane; e < p.choosing.num_experts; e += 32) counts[warp][e] = 0;
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
    for (int e = warp; e < p.choosing.num_experts; e += kFewWarps) {
      const uint32_t own = lane < kFewWarps ? counts[lane][e] : 0, upto = warp_prefix_sum(own);
      if (lane < kFewWarps) counts[lane][e] = upto - own;
      if (lane == 31) totals[e] = upto;
    }
    __syncthreads();
    if (warp == 0) {
      uint32_t before = 0;
#pragma unroll 1
      for (int base = 0; base < p.choosing.num_experts; base += 32) {
        const int e = base + lane;
        const uint32_t own = e < p.choosing.num_experts ? totals[e] : 0, upto = before + warp_prefix_sum(own);
        if (e < p.choosing.num_experts) {
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

template <typename T, typename Gate, int kTokens>
__global__ __launch_bounds__(kFewThreads, 2) void route_few_kernel(const RouteFewParams<T, Gate> p) {
  hopper::start_next_kernel();
  __shared__ float partial[kFewWarps][kTokens * kFewChunk];
  __shared__ float logits[kTokens][kFewExperts];
  __shared__ bool is_last;
  const auto tokens = static_cast<int>(true_rows(p.num_rows, p.tokens));
  const int first = static_cast<int>(blockIdx.x) * kTokens;
  const auto gate_at = [&](int expert, int at) {
    return p.gate + static_cast<int64_t>(min(expert, p.choosing.num_experts - 1)) * p.hidden + at;
  };
  constexpr int kStride = kFewThreads * kVector;
  // The gate is not written by any kernel: in small steps, where latency is all, the first experts' rows are in
  // registers before the kernel before us ends.
  constexpr int kAhead = kTokens == 1 && sizeof(Gate) == 2 ? 2 : 0;
  uint4 ahead[kAhead + 1][kFewChunk];
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    const int at = threadIdx.x * kVector + i * kStride;
#pragma unroll
    for (int e = 0; e < kFewChunk; ++e) ahead[i][e] = at < p.hidden ? load16(gate_at(e, at)) : uint4{};
  }
  prefetch_to_l2(p.gate, int64_t{p.choosing.num_experts} * p.hidden);
  hopper::wait_for_previous_kernel();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;

  const auto add = [&](const float(&x)[8], const float(&gate)[8], float& to) {
#pragma unroll
    for (int i = 0; i < 8; ++i) to = fmaf(x[i], gate[i], to);
  };
  float begun[kTokens][kFewChunk] = {};  // sums of the first experts
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
      for (int e = 0; e < kFewChunk; ++e) {
        float gate[8];
        unpack8<T>(ahead[i][e], gate);
        add(x, gate, begun[0][e]);
      }
    }
  }

#pragma unroll 1
  for (int chunk = 0; first < tokens && chunk < p.choosing.num_experts; chunk += kFewChunk) {
    float sum[kTokens][kFewChunk];
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
#pragma unroll
      for (int e = 0; e < kFewChunk; ++e) sum[t][e] = chunk == 0 ? begun[t][e] : 0.0f;
    }
    int at = threadIdx.x * kVector + (chunk == 0 ? kAhead * kStride : 0);
#pragma unroll 1
    for (; at < p.hidden; at += kStride) {
      float x[kTokens][8];
#pragma unroll
      for (int t = 0; t < kTokens; ++t) load8(p.x + int64_t{min(first + t, tokens - 1)} * p.hidden + at, x[t]);
#pragma unroll
      for (int e = 0; e < kFewChunk; ++e) {
        float gate[8];
        load8(gate_at(chunk + e, at), gate);
#pragma unroll
        for (int t = 0; t < kTokens; ++t) add(x[t], gate, sum[t][e]);
      }
    }
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      const float total = warp_sum8(sum[t]);
      if (lane % 4 == 0) partial[warp][t * kFewChunk + lane / 4] = total;
    }
    __syncthreads();
    if (threadIdx.x < kTokens * kFewChunk) {
      float total = 0.0f;
#pragma unroll
      for (int w = 0; w < kFewWarps; ++w) total += partial[w][threadIdx.x];
      logits[threadIdx.x / kFewChunk][chunk + threadIdx.x % kFewChunk] = total;
    }
    __syncthreads();
  }
  if (warp < kTokens && first + warp < tokens) {
    float logit[1] = {lane < p.choosing.num_experts ? logits[warp][lane] : 0.0f};
    const Choice choice = choose_experts<1>(logit, p.choosing);
    const int64_t pair = int64_t{first + warp} * p.choosing.top_k + lane;
    if (lane < p.choosing.top_k) p.experts[pair] = choice.expert, p.weights[pair] = choice.weight;
  }

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
