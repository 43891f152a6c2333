// route's placement: which row each (token, expert) pair takes, expert by expert, tokens in order. Who chose whom
// stands in bits: a row of bytes for every eight tokens, a byte an expert, a bit a token. What comes before a pair is
// counted in those, so that every warp finds its own tokens' rows and nobody has to be last.
#pragma once

#include "cuda/hopper/cluster.cuh"
#include "cuda/kernels/true_rows.cuh"
#include "cuda/kernels/vector.cuh"

namespace hearth::cuda {

constexpr int kPlaceWarps = 8;

// A lane has kSlots neighbouring experts: a word for four of them.
template <int kSlots>
struct ChosenBits {
  uint32_t words[kSlots * 8];

  __device__ __forceinline__ void set(int expert, int token) {
    atomicOr(&words[expert / 4], 1u << (expert % 4 * 8 + token));
  }
};
template <int kSlots>
struct LaneBits {
  uint32_t words[kSlots / 4];
};
template <int kSlots>
__device__ __forceinline__ LaneBits<kSlots> lane_bits(const ChosenBits<kSlots>& row) {
  return reinterpret_cast<const LaneBits<kSlots>*>(row.words)[threadIdx.x % 32];
}

// How many bits are set in each byte.
__device__ __forceinline__ uint32_t count_bytes(uint32_t v) {
  v -= (v >> 1) & 0x55555555;
  v = (v & 0x33333333) + ((v >> 2) & 0x33333333);
  return (v + (v >> 4)) & 0x0F0F0F0F;
}
__device__ __forceinline__ int32_t byte_of(uint32_t v, int byte) { return (v >> (8 * byte)) & 0xFF; }
template <int kSlots>
__device__ __forceinline__ void add_counts(const LaneBits<kSlots>& bits, int32_t (&to)[kSlots]) {
#pragma unroll
  for (int i = 0; i < kSlots; ++i) to[i] += byte_of(count_bytes(bits.words[i / 4]), i % 4);
}

// Where each of the lane's experts' rows start, from how many all experts have. One warp may store them.
template <int kSlots>
__device__ __forceinline__ void find_starts(const int32_t (&counts)[kSlots], int32_t (&starts)[kSlots]) {
  const int lane = threadIdx.x % 32;
  int32_t own = 0;
#pragma unroll
  for (int32_t each : counts) own += each;
  int32_t through = own;
#pragma unroll
  for (int offset = 1; offset < 32; offset *= 2) {
    const int32_t left = __shfl_up_sync(~0u, through, offset);
    if (lane >= offset) through += left;
  }
  int32_t next = through - own;
#pragma unroll
  for (int i = 0; i < kSlots; ++i) starts[i] = next, next += counts[i];
}
template <int kSlots>
__device__ __forceinline__ void store_ranges(const int32_t (&counts)[kSlots], const int32_t (&starts)[kSlots],
                                             int num_experts, int32_t* to_starts, int32_t* to_ends) {
#pragma unroll
  for (int i = 0; i < kSlots; ++i) {
    const int expert = threadIdx.x % 32 * kSlots + i;
    if (expert < num_experts) to_starts[expert] = starts[i], to_ends[expert] = starts[i] + counts[i];
  }
}

// The row of a token's expert. `before`: the first rows that these tokens may take, [experts].
template <int kSlots>
__device__ __forceinline__ int32_t row_of(const int32_t* before, const ChosenBits<kSlots>& bits, int token,
                                          int expert) {
  const uint32_t earlier = (1u << token) - 1;
  return before[expert] + __popc(byte_of(bits.words[expert / 4], expert % 4) & earlier);
}
template <int kSlots>
__device__ __forceinline__ void store_lane(const int32_t (&from)[kSlots], int32_t* to) {
  auto* fours = reinterpret_cast<int4*>(to + threadIdx.x % 32 * kSlots);
#pragma unroll
  for (int i = 0; i < kSlots; i += 4) fours[i / 4] = {from[i], from[i + 1], from[i + 2], from[i + 3]};
}

// Counts of so many rows of bits: pairs of 16 bits, even bytes' first. A warp counts an eighth of all tokens.
template <int kSlots>
struct WideCounts {
  uint32_t pairs[kSlots / 2];

  __device__ __forceinline__ void add(const LaneBits<kSlots>& bits) {
#pragma unroll
    for (int i = 0; i < kSlots / 4; ++i) {
      const uint32_t counts = count_bytes(bits.words[i]);
      pairs[2 * i] += counts & 0x00FF00FF;
      pairs[2 * i + 1] += (counts >> 8) & 0x00FF00FF;
    }
  }
  __device__ __forceinline__ void add_to(int32_t (&counts)[kSlots]) const {
#pragma unroll
    for (int i = 0; i < kSlots; ++i) counts[i] += (pairs[i / 4 * 2 + i % 2] >> (i % 4 / 2 * 16)) & 0xFFFF;
  }
};
constexpr int64_t kMostPlaced = int64_t{1} << 18;  // tokens: an eighth fits 16 bits

template <int kSlots>
struct PlaceParams {
  const ChosenBits<kSlots>* bits;  // of 2^own_log2 tokens each
  const int32_t* experts;          // [tokens, top_k]
  int32_t* rows;                   // [tokens, top_k]
  int32_t* starts;                 // [experts]
  int32_t* ends;                   // [experts]
  const int32_t* num_rows;
  int64_t tokens;
  int num_experts, top_k, own_log2;
};

// Behind route, where more than one cluster chose. A warp places the tokens of one ChosenBits; all warps of a block
// together count what stands before it, and all there is.
template <int kSlots>
__global__ __launch_bounds__(kPlaceWarps * 32) void place_kernel(const PlaceParams<kSlots> p) {
  hopper::start_next_kernel();
  __shared__ __align__(16) ChosenBits<kSlots> bits[kPlaceWarps];
  __shared__ WideCounts<kSlots> sums[2][kPlaceWarps][32];
  __shared__ __align__(16) int32_t rows_before[kPlaceWarps][32 * kSlots];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const auto tokens = static_cast<int>(true_rows(p.num_rows, p.tokens));
  const int groups = ceil_div(tokens, 1 << p.own_log2), first = static_cast<int>(blockIdx.x) * kPlaceWarps,
            own = first + warp;
  const int pairs = min(tokens - (own << p.own_log2), 1 << p.own_log2) * p.top_k;
  const int64_t first_pair = (int64_t{own} << p.own_log2) * p.top_k;
  hopper::wait_for_previous_kernel();
  const auto expert_of = [&](int pair) { return pair < pairs ? p.experts[first_pair + pair] : 0; };
  int next = expert_of(lane);
  if (own < groups) reinterpret_cast<LaneBits<kSlots>*>(bits[warp].words)[lane] = lane_bits(p.bits[own]);
  WideCounts<kSlots> all{}, before{};
  constexpr int kAhead = 32 / kSlots;
#pragma unroll 1
  for (int base = warp; base < groups; base += kAhead * kPlaceWarps) {
    LaneBits<kSlots> ahead[kAhead] = {};
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (base + i * kPlaceWarps < groups) ahead[i] = lane_bits(p.bits[base + i * kPlaceWarps]);
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      all.add(ahead[i]);
      if (base + i * kPlaceWarps < first) before.add(ahead[i]);
    }
  }
  sums[0][warp][lane] = all;
  sums[1][warp][lane] = before;
  __syncthreads();
  int32_t counts[kSlots] = {}, from[kSlots];
#pragma unroll 1
  for (const auto& of_warp : sums[0]) of_warp[lane].add_to(counts);
  find_starts(counts, from);
  if (blockIdx.x == 0 && warp == 0) store_ranges(counts, from, p.num_experts, p.starts, p.ends);
#pragma unroll 1
  for (const auto& of_warp : sums[1]) of_warp[lane].add_to(from);
#pragma unroll 1
  for (int w = 0; w < min(warp, groups - first); ++w) add_counts(lane_bits(bits[w]), from);
  store_lane(from, rows_before[warp]);
  __syncwarp();
#pragma unroll 1
  for (int pair = lane; pair < pairs; pair += 32) {
    const int expert = next;
    next = expert_of(pair + 32);
    p.rows[first_pair + pair] = row_of(rows_before[warp], bits[warp], pair / p.top_k, expert);
  }
}

}  // namespace hearth::cuda
