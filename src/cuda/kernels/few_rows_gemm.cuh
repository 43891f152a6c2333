// grouped_gemm for groups of few rows: e4m3, a scale a row of x or for every 128 of K. A CTA takes little enough of an
// SM that the next kernel's can stand beside it, and fetch their weights while it computes: one warp feeds a ring of
// stages by TMA, one warpgroup multiplies 64 weight rows (WGMMA's M) by kN tokens. Where that is too few CTAs for the
// SMs, a cluster shares a tile's K: each CTA takes some of the spans that grouped_gemm sums in float16, sends their
// sums to whichever CTA of the cluster ends those weight rows, and there they add up in the order of K. So the bits are
// grouped_gemm's. With a scale for every 128 of K a sum is one block's, in float32 (few_rows_gemm_blocks.cuh); where
// SwiGLU gives its own such scales, a cluster is the weight rows of one of them. See docs/kernels/few_rows_gemm.md for
// the picture, grouped_gemm.h for the contract.
#pragma once

#include "cuda/grouped_gemm.h"
#include "cuda/hopper/async_store.cuh"
#include "cuda/hopper/cluster.cuh"
#include "cuda/hopper/tma.cuh"
#include "cuda/kernels/few_rows_gemm_blocks.cuh"
#include "cuda/kernels/few_rows_gemm_params.h"
#include "cuda/kernels/grouped_gemm_epilogue.cuh"
#include "cuda/kernels/grouped_gemm_math.cuh"

namespace hearth::cuda {

// A piece of a group's rows of x and y.
struct FewRowsPiece {
  int group, row, rows;
};

// All groups' pieces of at most kN rows, in shared memory. By one warp; returns how many.
template <int kN>
__device__ __forceinline__ int list_pieces(const FewRowsGemmParams& p, FewRowsPiece* pieces) {
  const int lane = threadIdx.x % 32;
  int before = 0;
#pragma unroll 1
  for (int base = 0; base < p.groups; base += 32) {
    const int g = base + lane;
    int first = 0, rows = 0;
    if (g < p.groups) {
      // Past the L1 cache: this is read ahead of wait_for_previous_kernel().
      first = __ldcg(p.starts + g);
      rows = __ldcg(p.ends + g) - first;
    }
    const int own = rows > 0 ? ceil_div(rows, kN) : 0;
    int upto = own;
#pragma unroll
    for (int d = 1; d < 32; d *= 2) {
      const int left = __shfl_up_sync(0xFFFFFFFF, upto, d);
      if (lane >= d) upto += left;
    }
    for (int i = 0; i < own; ++i) pieces[before + upto - own + i] = {g, first + i * kN, min(kN, rows - i * kN)};
    before += __shfl_sync(0xFFFFFFFF, upto, 31);
  }
  return before;
}

// Where a warp's 16 weight rows by kN tokens go, as grouped_gemm_epilogue.cuh's Output; the tokens' scales are in
// registers.
template <int kN>
struct FewRowsOutput {
  int64_t row;
  int rows;
  int column, columns;
  float scale0, scale1;
  float2 token_scale[kN / 8];
  static constexpr int first = 0;

  __device__ __forceinline__ bool stores(int j) const { return 8 * j + static_cast<int>(threadIdx.x) % 32 / 4 < rows; }
  template <bool kRowScales>
  __device__ __forceinline__ float2 token_scales(int j) const {
    return kRowScales ? token_scale[j] : make_float2(1.0f, 1.0f);
  }
};

__device__ __forceinline__ uint32_t bits_of(uint32_t word) { return word; }
__device__ __forceinline__ uint32_t bits_of(float value) { return __float_as_uint(value); }

template <typename Out, Epilogue kEpilogue, bool kRowScales, int kN>
__global__ void __launch_bounds__(kFewRowsThreads, 2)
    few_rows_gemm_kernel(const __grid_constant__ FewRowsGemmParams p) {
  using namespace hopper;
  constexpr int kWeightBytes = kFewRowsTileM * kWeightTileBytes, kStageBytes = kWeightBytes + kN * kWeightTileBytes;
  constexpr bool kPairs = kEpilogue != Epilogue::kStore;  // of gate and up
  constexpr int kWords = kRowScales ? kN / 4 : kN / 2;    // of a thread's sums over one span, or block
  constexpr int kVector = kWords < 4 ? 2 : 4;             // sent at a time
  extern __shared__ char unaligned[];
  char* stages = unaligned + (-shared_address(unaligned) & 1023);  // the swizzle's atoms
  __shared__ StageRing ring;
  __shared__ uint64_t sums_ready;
  __shared__ int piece_count;

  // Uniform, and known to be.
  const int warp = __shfl_sync(0xFFFFFFFF, threadIdx.x / 32, 0), lane = threadIdx.x % 32;
  const int rank = p.cluster == 1 ? 0 : static_cast<int>(cluster_rank());
  const int cluster = blockIdx.x / p.cluster, clusters = gridDim.x / p.cluster;
  const int m_tiles = ceil_div(p.n, kFewRowsTileM);
  const int ended_here = kFewRowsWarps / p.cluster;  // of the warps' weight rows
  // Behind the ring: the spans' sums, [span][warp][word / kVector][lane][kVector], of the warps that end here; then
  // the pieces.
  uint32_t* sums = reinterpret_cast<uint32_t*>(stages + p.stages * kStageBytes);
  const int most_sums = kRowScales ? Spans{p.k_blocks, true}.count() : p.k_blocks;
  auto* pieces = reinterpret_cast<FewRowsPiece*>(sums + (p.cluster == 1 ? 0 : most_sums * ended_here * kWords * 32));
  const bool listed = p.groups > 1;

  if (threadIdx.x == 0) {
    ring.init(1, kFewRowsWarps);
    mbarrier_init(&sums_ready, 1);
    mbarrier_init_fence();
  }
  if (warp == kFewRowsWarps) {
    if (lane == 0) tma_prefetch_map(&p.w), tma_prefetch_map(&p.x);
    if (listed) {
      const int count = list_pieces<kN>(p, pieces);
      if (lane == 0) piece_count = count;
    }
  }
  __syncthreads();
  if (p.cluster > 1) cluster_arrive();
  int row = 0, rows = 0;  // of a dense layer: a step's inputs
  if (!listed) row = __ldcg(p.starts), rows = __ldcg(p.ends) - row;
  const auto piece_of = [&](int tile) {
    const int piece = tile / m_tiles;
    if (listed) return pieces[piece];
    return FewRowsPiece{0, row + piece * kN, min(kN, rows - piece * kN)};
  };
  const int tiles = (listed ? piece_count : ceil_div(rows, kN)) * m_tiles;

  StageAt at;
  if (warp == kFewRowsWarps) {
    if (lane == 0) {  // the producer
      const auto load_weights = [&](int stage, int group, int m_tile, int block) {
        mbarrier_arrive_expect(&ring.full[stage], kStageBytes);
        tma_load_5d(stages + stage * kStageBytes, &p.w, &ring.full[stage], 0, m_tile % 2 * kFewRowsTileM, block,
                    m_tile / 2, group, p.weight_policy);
      };
      const auto blocks_of = [&](int m_tile) {
        if constexpr (!kRowScales)
          return int2{first_block_of(p.k_blocks, rank, p.cluster), first_block_of(p.k_blocks, rank + 1, p.cluster)};
        const Spans spans{p.k_blocks, m_tile % 2 != 0};
        const int begin = spans.begin(spans.first_of(rank, p.cluster));
        return int2{begin, spans.begin(spans.first_of(rank + 1, p.cluster))};
      };
      // The first weights are on their way before the kernel before this one is done.
      int ahead = 0;
      for (int tile = cluster; tile < tiles && ahead < p.stages; tile += clusters) {
        const int m_tile = tile % m_tiles, group = piece_of(tile).group;
        const int2 blocks = blocks_of(m_tile);
        for (int block = blocks.x; block < blocks.y && ahead < p.stages; ++block)
          load_weights(ahead++, group, m_tile, block);
      }
      wait_for_previous_kernel();
      start_next_kernel();
      for (int tile = cluster; tile < tiles; tile += clusters) {
        const int m_tile = tile % m_tiles;
        const FewRowsPiece piece = piece_of(tile);
        const int2 blocks = blocks_of(m_tile);
        for (int block = blocks.x; block < blocks.y; ++block) {
          if (ahead > 0) {
            --ahead;
          } else {
            mbarrier_wait(&ring.empty[at.index], at.parity ^ 1);
            load_weights(at.index, piece.group, m_tile, block);
          }
          tma_load_2d(stages + at.index * kStageBytes + kWeightBytes, &p.x, &ring.full[at.index],
                      block * kWeightTileBytes, piece.row, p.token_policy);
          at.advance(p.stages);
        }
      }
    }
    __syncwarp();
    if (p.cluster > 1) cluster_wait();
    return;
  }

  Operands operands;
  operands.full = __shfl_sync(0xFFFFFFFF, shared_address(&ring.full[0]), 0);
  operands.empty = mbarrier_in_cluster(shared_address(&ring.empty[0]), rank);
  operands.releases = lane == 0;
  operands.weights = __shfl_sync(0xFFFFFFFF, wgmma_descriptor_low(shared_address(stages)), 0);
  operands.tokens = operands.weights + kWeightBytes / 16;
  operands.stage_units = kStageBytes / 16;
  operands.stages = p.stages;
  // Its weight rows' sums go to the CTA that ends them.
  const int ends_at = warp / ended_here;
  constexpr int kSumBytes = kWords * 32 * 4;
  const uint32_t* own = sums + (warp % ended_here * (kWords / kVector) * 32 + lane) * kVector;
  uint32_t to = 0, to_ready = 0;
  if (p.cluster > 1) {
    to = mbarrier_in_cluster(shared_address(own), ends_at);
    to_ready = mbarrier_in_cluster(shared_address(&sums_ready), ends_at);
  }
  const SpanSums span_sums(p.k_blocks);
  wait_for_previous_kernel();
  bool met = p.cluster == 1;  // the other CTAs of the cluster
  const auto meet = [&] {
    if (!met) cluster_wait();
    met = true;
  };
  const auto send = [&](const auto& sum, int index) {
    meet();
    const uint32_t at_sum = to + index * ended_here * kSumBytes;
#pragma unroll
    for (int i = 0; i < kWords; i += kVector) {
      if constexpr (kVector == 2) {
        store_async(at_sum + i * 32 * 4, make_uint2(bits_of(sum[i]), bits_of(sum[i + 1])), to_ready);
      } else {
        store_async(at_sum + i * 32 * 4,
                    make_uint4(bits_of(sum[i]), bits_of(sum[i + 1]), bits_of(sum[i + 2]), bits_of(sum[i + 3])),
                    to_ready);
      }
    }
  };
  const auto receive = [&](auto& sum, int index) {
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      const uint32_t word = own[index * ended_here * kWords * 32 + i / kVector * kVector * 32 + i % kVector];
      memcpy(&sum[i], &word, 4);
    }
  };
  EightBlocks<kN, kPairs> scales;  // the next eight blocks', on their way
  if constexpr (!kRowScales) {
    if (p.cluster == 1 && cluster < tiles) {
      const FewRowsPiece piece = piece_of(cluster);
      scales.load(p, piece.group, cluster % m_tiles, piece.row, piece.rows, 0);
    }
  }
#pragma unroll 1
  for (int tile = cluster; tile < tiles; tile += clusters) {
    const int m_tile = tile % m_tiles;
    const FewRowsPiece piece = piece_of(tile);
    const Spans spans{p.k_blocks, m_tile % 2 != 0};
    const int count = kRowScales ? spans.count() : p.k_blocks;  // of sums
    FewRowsOutput<kN> out;
    out.row = piece.row, out.rows = piece.rows;
    out.column = m_tile * kFewRowsTileM + warp * 16, out.columns = p.n;
    if (ends_at == rank) {  // what the epilogue multiplies by, on its way meanwhile
      const float* channel = p.channel_scales + int64_t{piece.group} * p.n + out.column + lane / 4;
      const bool scaled = out.column < p.n && p.channel_scales;
      out.scale0 = scaled ? __ldg(channel) : 1.0f;
      out.scale1 = scaled ? __ldg(channel + 8) : 1.0f;
      if constexpr (kRowScales) {
#pragma unroll
        for (int j = 0; j < kN / 8; ++j) {
          const int token = 8 * j + lane % 4 * 2;
          const float* scales = p.row_scales + piece.row + token;
          out.token_scale[j].x = p.row_scales && token < piece.rows ? __ldcg(scales) : 1.0f;
          out.token_scale[j].y = p.row_scales && token + 1 < piece.rows ? __ldcg(scales + 1) : 1.0f;
        }
      }
      if (p.cluster > 1 && warp % ended_here == 0 && lane == 0)
        mbarrier_arrive_expect(&sums_ready, count * ended_here * kSumBytes);
    }
    float total[kN / 2] = {};
    if constexpr (kRowScales) {
      uint32_t parts[kWords] = {};
      const int last = spans.first_of(rank + 1, p.cluster);
#pragma unroll 1
      for (int span = spans.first_of(rank, p.cluster); span < last; ++span) {
        uint32_t sum[kWords];
        sum_stages<E4M3, kN>(sum, operands, spans.begin(span + 1) - spans.begin(span), at);
        if (p.cluster == 1) {
          span_sums.add(parts, sum);
        } else {
          send(sum, span);
        }
      }
      if (p.cluster > 1) {
        meet();
        if (ends_at != rank) break;
        mbarrier_wait_cluster(&sums_ready, 0);
#pragma unroll 1
        for (int span = 0; span < count; ++span) {
          uint32_t sum[kWords];
          receive(sum, span);
          span_sums.add(parts, sum);
        }
      }
      span_sums.widen(parts, total);
    } else if (p.cluster == 1) {
#pragma unroll 1
      for (int block = 0; block < count; block += kScaledBlocks) {
        const BlockFactors<kN, kPairs> factors(scales);
        const bool ends = block + kScaledBlocks >= count;
        if (const int of = ends ? tile + clusters : tile; of < tiles) {
          const FewRowsPiece next = piece_of(of);
          scales.load(p, next.group, of % m_tiles, next.row, next.rows, ends ? 0 : block + kScaledBlocks);
        }
        sum_each_stage<kN>(operands, min(kScaledBlocks, count - block), at,
                           [&](const float(&sum)[kN / 2], int i) { factors.add(total, sum, i); });
      }
    } else {
      constexpr int kHeld = kMostSharedBlocks / kScaledBlocks;
      EightBlocks<kN, kPairs> held[kHeld];
#pragma unroll
      for (int i = 0; i < kHeld; ++i)
        if (ends_at == rank && i * kScaledBlocks < count)
          held[i].load(p, piece.group, m_tile, piece.row, piece.rows, i * kScaledBlocks);
      const int first = first_block_of(count, rank, p.cluster), last = first_block_of(count, rank + 1, p.cluster);
      sum_each_stage<kN>(operands, last - first, at, [&](const float(&sum)[kN / 2], int i) { send(sum, first + i); });
      meet();
      if (ends_at != rank) break;
      mbarrier_wait_cluster(&sums_ready, 0);
#pragma unroll
      for (int i = 0; i < kHeld; ++i) {
        const BlockFactors<kN, kPairs> factors(held[i]);
#pragma unroll 1
        for (int b = 0; b < min(kScaledBlocks, count - i * kScaledBlocks); ++b) {
          float sum[kN / 2];
          receive(sum, i * kScaledBlocks + b);
          factors.add(total, sum, b);
        }
      }
    }
    if constexpr (kEpilogue == Epilogue::kSwiglu) {
      store_swiglu<Out, kN, kRowScales>(total, static_cast<Out*>(p.y), out);
    } else {
      const uint16_t* bias = static_cast<const uint16_t*>(p.bias);
      if (bias) bias += int64_t{piece.group} * p.n;
      if constexpr (kEpilogue == Epilogue::kClampedSwiglu) {
        store_clamped_swiglu<Out, kN, kRowScales>(total, static_cast<Out*>(p.y), out, bias,
                                                  {p.swiglu_limit, p.swiglu_alpha});
      } else {
        store_tile<Out, kN, kRowScales>(total, static_cast<Out*>(p.y), out, bias);
      }
    }
    if (p.cluster > 1) break;  // a cluster has one tile
  }
  meet();
}

}  // namespace hearth::cuda
