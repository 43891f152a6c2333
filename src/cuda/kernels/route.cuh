// route: a cluster of eight CTAs takes up to 64 tokens. Each CTA has an eighth of K for all experts and sends its part
// of every logit to the CTA that chooses for the token: each for an eighth of the tokens, a warp a token, which adds
// the parts in order of K. See docs/kernels/small_kernels.md for the picture. Products run on tensor cores with float32
// sums and the same instructions for any number of tokens, so that a row's bits are its own.
#pragma once

#include "cuda/hopper/async_store.cuh"
#include "cuda/hopper/cluster.cuh"
#include "cuda/kernels/prefetch.cuh"
#include "cuda/kernels/route_choose.cuh"
#include "cuda/kernels/route_place.cuh"
#include "cuda/kernels/true_rows.cuh"
#include "cuda/kernels/vector.cuh"
#include "cuda/kernels/warp_mma.cuh"

namespace hearth::cuda {

constexpr int kRouteThreads = 256;
constexpr int kRouteWarps = kRouteThreads / 32;
constexpr int kRouteCluster = 8;       // CTAs
constexpr int kMostOwn = kRouteWarps;  // tokens for which a CTA chooses
constexpr int kMostRouteTokens = kRouteCluster * kMostOwn;
constexpr int kTokenTile = 16, kExpertTile = 16;  // of a product
constexpr int kProductBlock = 32;                 // of K, two products

template <typename T, typename Gate, int kSlots>
struct RouteParams {
  const T* x;                // [tokens, hidden]
  const Gate* gate;          // [experts, hidden]
  int32_t* experts;          // [tokens, top_k]
  float* weights;            // [tokens, top_k]
  int32_t* rows;             // [tokens, top_k]
  int32_t* starts;           // [experts]
  int32_t* ends;             // [experts]
  ChosenBits<kSlots>* bits;  // a CTA's, for place_kernel, which then writes rows, starts and ends; or null
  Choosing choosing;
  const int32_t* num_rows;
  int64_t tokens;
  int hidden;
  int own_log2;     // tokens of a CTA; where one cluster has all, the most there may be
  int tiles_log2;   // of experts, that warps of a CTA have side by side
  int spans_log2;   // of K, likewise
  int span;         // K of each
  int pair_stride;  // bytes from token to token in shared memory, each beside the one eight after it
};

// A product's operand: values as they are, or, where gate is f32, numbers in bf16 of which they are the sum. That is
// exact: a float's 24 bits are three times eight, a float16's eleven fit two.
template <typename Product, typename From>
constexpr int kParts = 1;
template <>
constexpr int kParts<Bf16, Half> = 2;
template <typename Product>
constexpr int kParts<Product, float> = 3;
template <typename From>
struct Eight {
  uint4 bits[sizeof(From) / 2];
};
template <typename Product, typename From>
__device__ __forceinline__ void to_parts(const Eight<From>& from, uint4 (&parts)[kParts<Product, From>]) {
  if constexpr (std::is_same_v<Product, From>) {
    parts[0] = from.bits[0];
  } else {
    float left[8];
    load8(reinterpret_cast<const From*>(from.bits), left);
#pragma unroll
    for (uint4& part : parts) {
      float v[8];
      part = pack8<Product>(left);
      unpack8<Product>(part, v);
#pragma unroll
      for (int i = 0; i < 8; ++i) left[i] -= v[i];
    }
  }
}

// Adds what 32 of K give for 16 tokens and 16 experts. Two products take halves of what a lane has: of eight
// neighbouring values of two experts each, and of two tokens, which lie side by side.
using PairOfSums = float[2][4];
template <typename T, typename Gate>
__device__ __forceinline__ void multiply(PairOfSums (&sums)[2], const Eight<T> (&x)[2],
                                         const Eight<Gate> (&weights)[2]) {
  using Product = std::conditional_t<std::is_same_v<Gate, float>, Bf16, T>;
  using Mma = WarpMma<std::conditional_t<std::is_same_v<Product, Bf16>, BF16, F16>>;
  uint4 a[2][kParts<Product, T>], b[2][kParts<Product, Gate>];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    to_parts<Product>(x[i], a[i]);
    to_parts<Product>(weights[i], b[i]);
  }
#pragma unroll
  for (int i = 0; i < kParts<Product, T>; ++i) {
#pragma unroll
    for (int j = 0; j < kParts<Product, Gate>; ++j) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        Mma::run(sums[0][e], a[0][i].x, a[0][i].y, a[0][i].z, a[0][i].w, b[e][j].x, b[e][j].y);
        Mma::run(sums[1][e], a[1][i].x, a[1][i].y, a[1][i].z, a[1][i].w, b[e][j].z, b[e][j].w);
      }
    }
  }
}

template <typename Gate, int kSlots>
constexpr int kRouteResident = kSlots == 4 && sizeof(Gate) == 2 ? 2 : 1;  // CTAs of a multiprocessor

template <typename T, typename Gate, int kSlots>
__global__ __launch_bounds__(kRouteThreads,
                             kRouteResident<Gate, kSlots>) void route_kernel(const RouteParams<T, Gate, kSlots> p) {
  using namespace hopper;
  constexpr int kBlocks = sizeof(Gate) == 2 ? 8 : 4;  // of K, whose weights a warp has in registers
  constexpr int kAtOnce = 4;                          // of those, whose tokens' values it reads together
  start_next_kernel();
  extern __shared__ uint4 dynamic[];
  __shared__ ChosenBits<kSlots> bits[kRouteCluster];
  __shared__ uint64_t sums_ready, bits_ready;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, row = lane / 4, column = lane % 4;
  const auto rank = static_cast<int>(cluster_rank());
  const int expert_tiles = ceil_div(p.choosing.num_experts, kExpertTile), padded_experts = expert_tiles * kExpertTile;
  // Warps have different tiles of experts, then different spans of K, then different tokens.
  const int first_tile = warp & ((1 << p.tiles_log2) - 1), rest = warp >> p.tiles_log2;
  const int span_in_cta = rest & ((1 << p.spans_log2) - 1), first_chunk = rest >> p.spans_log2;
  const int chunk_step = kRouteWarps >> (p.tiles_log2 + p.spans_log2);
  const int span = (rank << p.spans_log2) + span_in_cta, spans = kRouteCluster << p.spans_log2;
  const int begin = span * p.span, end = min(begin + p.span, p.hidden);
  const int blocks = ceil_div(max(end - begin, 0), kProductBlock);
  const int cluster_tokens = kRouteCluster << p.own_log2;
  const int first = static_cast<int>(blockIdx.x) / kRouteCluster * cluster_tokens;
  int tokens, own_log2 = p.own_log2;  // of the cluster; those of a CTA

  // Parts of logits [span][own token][expert]; x; a warp's sums between loads of weights.
  auto* parts = reinterpret_cast<float*>(dynamic);
  auto* x = reinterpret_cast<char*>(parts + (spans << p.own_log2) * padded_experts);
  auto* carried = reinterpret_cast<float4*>(x + max(cluster_tokens / 2, 8) * p.pair_stride) + threadIdx.x;

  const auto start = [&] {
    if (blocks > kBlocks || expert_tiles > kRouteWarps)
      prefetch_to_l2(p.gate, int64_t{p.choosing.num_experts} * p.hidden);
    tokens = max(min(static_cast<int>(true_rows(p.num_rows, p.tokens)) - first, cluster_tokens), 0);
    // Where nobody else counts on it, tokens spread over all CTAs.
    while (!p.bits && own_log2 > 0 && (kRouteCluster << own_log2) >= 2 * tokens) --own_log2;
    const int owners = ceil_div(tokens, 1 << own_log2), own = min(max(tokens - (rank << own_log2), 0), 1 << own_log2);
    if (threadIdx.x == 0) {
      mbarrier_init(&sums_ready, 1);
      mbarrier_init(&bits_ready, 1);
      mbarrier_init_fence();
      mbarrier_arrive_expect(&sums_ready, spans * padded_experts * own * sizeof(float));
      mbarrier_arrive_expect(&bits_ready, max(owners - 1, 0) * sizeof(ChosenBits<kSlots>));
    }
    if (threadIdx.x < kSlots * 8) bits[rank].words[threadIdx.x] = 0;
    cluster_sync();  // before anyone stores into another's memory
    wait_for_previous_kernel();
    // Words of a token and of the one eight after it alternate, as a product's operand has them. Values of tokens that
    // are not there reach no sum of others.
    const int cta_begin = (rank << p.spans_log2) * p.span, cta_k = p.span << p.spans_log2;
    constexpr int kChunks = kMostRouteTokens / kTokenTile;
#pragma unroll 1
    for (int k = lane * kVector; k < cta_k; k += 32 * kVector) {
      uint4 values[kChunks][2] = {};
#pragma unroll
      for (int i = 0; i < kChunks * 2; ++i) {
        const int token = i * 8 + warp;
        if (token < tokens && cta_begin + k < p.hidden)
          values[i / 2][i % 2] = load16(p.x + int64_t{first + token} * p.hidden + cta_begin + k);
      }
      char* to = x + warp * p.pair_stride + k / kProductBlock * 128 + k / kVector % 4 * 16;
#pragma unroll
      for (int i = 0; i < kChunks; ++i, to += 8 * p.pair_stride) {
        if (i * kTokenTile + warp >= tokens) break;
        const uint4 a = values[i][0], b = values[i][1];
        store16(to, make_uint4(a.x, b.x, a.y, b.y));
        store16(to + 64, make_uint4(a.z, b.z, a.w, b.w));
      }
    }
    __syncthreads();
  };

  bool started = false;
#pragma unroll 1
  for (int tile = first_tile, block = 0; !started || tile < expert_tiles;) {
    // No kernel writes the gate: the first weights are on their way before the kernel before us ends. A lane's column
    // of the two products' is so chosen that its sums are of four neighbouring experts.
    Eight<Gate> weights[kBlocks][2];
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int expert = tile * kExpertTile + row / 2 * 4 + e * 2 + row % 2;
      const int k = begin + block * kProductBlock + column * kVector;
      const Gate* from = p.gate + int64_t{expert} * p.hidden + k;
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
        weights[b][e] = {};
        if (expert < p.choosing.num_experts && k + b * kProductBlock < end)
          weights[b][e] = *reinterpret_cast<const Eight<Gate>*>(from + b * kProductBlock);
      }
    }
    if (!started) start();
    started = true;
    if (tile >= expert_tiles) break;
    const bool last = block + kBlocks >= blocks;
    const char* from =
        x + (first_chunk * 8 + row) * p.pair_stride + span_in_cta * p.span * 4 + block * 128 + column * 16;
    const int part_at = tile * kExpertTile + column * 4;
#pragma unroll 1
    for (int chunk = first_chunk; chunk * kTokenTile < tokens; chunk += chunk_step) {
      PairOfSums sums[2] = {};
      float4* const carry = carried + chunk * 2 * kRouteThreads;
      if (block > 0) {
        const float4 a = carry[0], b = carry[kRouteThreads];
        sums[0][0][0] = a.x, sums[0][0][1] = a.y, sums[0][1][0] = a.z, sums[0][1][1] = a.w;
        sums[0][0][2] = b.x, sums[0][0][3] = b.y, sums[0][1][2] = b.z, sums[0][1][3] = b.w;
      }
#pragma unroll
      for (int b = 0; b < kBlocks; b += kAtOnce) {
        if (block + b >= blocks) break;
        Eight<T> values[kAtOnce][2] = {};
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
          if (block + b + i < blocks) {
            values[i][0] = *reinterpret_cast<const Eight<T>*>(from + (b + i) * 128);
            values[i][1] = *reinterpret_cast<const Eight<T>*>(from + (b + i) * 128 + 64);
          }
        }
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) multiply(sums, values[i], weights[b + i]);
      }
      from += chunk_step * 8 * p.pair_stride;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const auto sum = [&](int e, int i) { return sums[0][e][2 * half + i] + sums[1][e][2 * half + i]; };
        const float4 four{sum(0, 0), sum(0, 1), sum(1, 0), sum(1, 1)};
        const int token = chunk * kTokenTile + half * 8 + row, owner = token >> own_log2;
        if (!last) {
          carry[half * kRouteThreads] = four;
        } else if (token < tokens) {  // to whom chooses for it
          const int slot = token - (owner << own_log2);
          const float* at = parts + ((span << own_log2) + slot) * padded_experts + part_at;
          store_async(mbarrier_in_cluster(shared_address(at), owner), *reinterpret_cast<const uint4*>(&four),
                      mbarrier_in_cluster(shared_address(&sums_ready), owner));
        }
      }
    }
    block += kBlocks;
    if (last) block = 0, tile += 1 << p.tiles_log2;
  }

  const int owners = ceil_div(tokens, 1 << own_log2), own = min(tokens - (rank << own_log2), 1 << own_log2);
  if (own <= 0 && rank > 0) return;
  mbarrier_wait_cluster(&sums_ready, 0);
  Choice choice;
  float* const my_parts = parts + warp * padded_experts;
  const int64_t pair = int64_t{first + (rank << own_log2) + warp} * p.choosing.top_k + lane;
  if (warp < own) {
    float logits[kSlots] = {};
    if (lane * kSlots < padded_experts) {
      const float* at = my_parts + lane * kSlots;
#pragma unroll 1
      for (int s = 0; s < spans; s += kRouteCluster) {
#pragma unroll
        for (int j = 0; j < kRouteCluster; ++j, at += padded_experts << own_log2) {
#pragma unroll
          for (int i = 0; i < kSlots; i += 4) {
            const float4 next = *reinterpret_cast<const float4*>(at + i);
            logits[i] += next.x, logits[i + 1] += next.y, logits[i + 2] += next.z, logits[i + 3] += next.w;
          }
        }
      }
    }
    choice = choose_experts<kSlots>(logits, p.choosing);
    if (lane < p.choosing.top_k) {
      bits[rank].set(choice.expert, warp);
      p.experts[pair] = choice.expert;
      p.weights[pair] = choice.weight;
    }
  }
  __syncthreads();
  if (p.bits) {  // place_kernel does the rest
    if (own > 0 && threadIdx.x < kSlots * 8)
      p.bits[(first >> own_log2) + rank].words[threadIdx.x] = bits[rank].words[threadIdx.x];
    return;
  }
  if (owners > 1) {
    constexpr int kVectors = kSlots * 2;
    const int to = threadIdx.x / kVectors;
    const auto* mine = reinterpret_cast<const uint4*>(bits[rank].words) + threadIdx.x % kVectors;
    if (to < owners && to != rank) {
      store_async(mbarrier_in_cluster(shared_address(mine), to), *mine,
                  mbarrier_in_cluster(shared_address(&bits_ready), to));
    }
    mbarrier_wait_cluster(&bits_ready, 0);
  }
  const bool stores_ranges = rank == 0 && warp == kRouteWarps - 1;
  if (warp >= own && !stores_ranges) return;
  int32_t counts[kSlots] = {}, before[kSlots] = {}, starts[kSlots];
#pragma unroll 1
  for (int r = 0; r < owners; ++r) {
    const LaneBits<kSlots> theirs = lane_bits(bits[r]);
    add_counts(theirs, counts);
    if (r < rank) add_counts(theirs, before);
  }
  find_starts(counts, starts);
  if (warp < own) {
#pragma unroll
    for (int i = 0; i < kSlots; ++i) before[i] += starts[i];
    auto* rows_before = reinterpret_cast<int32_t*>(my_parts);  // which nobody needs any more
    if (lane * kSlots < padded_experts) store_lane(before, rows_before);
    __syncwarp();
    if (lane < p.choosing.top_k) p.rows[pair] = row_of(rows_before, bits[rank], warp, choice.expert);
  }
  if (stores_ranges) store_ranges(counts, starts, p.choosing.num_experts, p.starts, p.ends);
}

}  // namespace hearth::cuda
