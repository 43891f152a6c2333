// The grouped_gemm kernel: a persistent cluster of one or two CTAs walks the tiles; in each CTA one thread feeds the
// stage ring by TMA and kWarpgroups warpgroups multiply, weights on WGMMA's M (64 rows a warpgroup), tokens on N. The
// CTAs of a cluster take neighbouring weight rows and share the token tile: each fetches half of it, for both.
// See docs/kernels/grouped_gemm.md for the picture, grouped_gemm.h for the contract.
#pragma once

#include "cuda/grouped_gemm.h"
#include "cuda/hopper/cluster.cuh"
#include "cuda/hopper/tma.cuh"
#include "cuda/kernels/grouped_gemm_epilogue.cuh"
#include "cuda/kernels/grouped_gemm_math.cuh"
#include "cuda/kernels/grouped_gemm_params.h"
#include "cuda/kernels/grouped_gemm_schedule.h"

namespace hearth::cuda {

template <int kMaxN, int N = 8, typename F>
__device__ __forceinline__ void with_width(int width, F&& f) {
  if constexpr (N < kMaxN) {
    if (width > N) return with_width<kMaxN, tile_width(N + 1)>(width, f);
  }
  f.template operator()<N>();
}

// Rows [row + first, row + rows) of x and y. The copy engine reads scales by 16 bytes, so where it does, a group's
// tiles begin at a multiple of 4 rows, with up to 3 rows that are not its own.
struct Tile {
  int group, m_tile, row, first, rows;
};

// The groups in the order of work, their row ranges and how many tiles lie before each, in shared memory; each role
// walks it for itself.
template <int kRowAlignment>
struct TileTable {
  int first_tile[kMaxGroups + 1];
  int group[kMaxGroups];
  int start[kMaxGroups];
  int rows[kMaxGroups];

  __device__ Pieces pieces(int g, int max_piece) const {
    return cut(rows[g] > 0 ? rows[g] + start[g] % kRowAlignment : 0, max_piece);
  }

  // By all threads of the CTA, which then synchronise.
  __device__ void fill(const GroupedGemmParams& p, int m_tiles) {
    // Large tiles first. There are at least as many threads as groups.
    static_assert(kMaxGroups <= 256);
    const int g = threadIdx.x;
    int first = 0, count = 0, piece = 0, rank = 0;
    if (g < p.groups) {
      first = p.starts[g];
      count = p.ends[g] - first;
      if (count > 0) piece = cut(count + first % kRowAlignment, p.max_piece).rows;
      rows[g] = piece;  // until all have compared theirs
    }
    __syncthreads();
    if (g < p.groups) {
      for (int other = 0; other < p.groups; ++other) rank += rows[other] > piece || (rows[other] == piece && other < g);
    }
    __syncthreads();
    if (g < p.groups) group[rank] = g, start[rank] = first, rows[rank] = count;
    __syncthreads();
    if (threadIdx.x < 32) {
      int before = 0;
      for (int base = 0; base < p.groups; base += 32) {
        const int g = base + threadIdx.x;
        const int tiles = g < p.groups ? pieces(g, p.max_piece).pieces * m_tiles : 0;
        int through = tiles;
        for (int d = 1; d < 32; d *= 2) {
          const int left = __shfl_up_sync(0xFFFFFFFF, through, d);
          if (threadIdx.x >= d) through += left;
        }
        if (g < p.groups) first_tile[g] = before + through - tiles;
        before += __shfl_sync(0xFFFFFFFF, through, 31);
      }
      if (threadIdx.x == 0) first_tile[p.groups] = before;
    }
  }
};

template <int kRowAlignment>
class TileWalk {
 public:
  __device__ TileWalk(const TileTable<kRowAlignment>& table, int m_tiles, int cluster, int max_piece)
      : table_(table),
        m_tiles_(m_tiles),
        max_piece_(max_piece),
        cluster_(blockIdx.x / cluster),
        clusters_(gridDim.x / cluster) {}

  __device__ bool next(const GroupedGemmParams& p, Tile& tile) {
    const int index = tile_of_round(round_++, cluster_, clusters_);
    if (index >= table_.first_tile[p.groups]) return false;
    while (index >= table_.first_tile[group_ + 1]) ++group_;
    const Pieces pieces = table_.pieces(group_, max_piece_);
    const TileInGroup at = tile_in_group(index - table_.first_tile[group_], m_tiles_, pieces.pieces);
    const int before = table_.start[group_] % kRowAlignment, begin = at.piece * pieces.rows;
    tile = {table_.group[group_], at.m_tile, table_.start[group_] - before + begin, at.piece == 0 ? before : 0,
            min(pieces.rows, before + table_.rows[group_] - begin)};
    return true;
  }

 private:
  const TileTable<kRowAlignment>& table_;
  int m_tiles_, max_piece_, cluster_, clusters_, round_ = 0, group_ = 0;
};

template <typename T, typename Out, Epilogue kEpilogue, bool kRowScales, int kWarpgroups, int kMaxN>
__global__ void __launch_bounds__(128 * (kWarpgroups + 1), 1)
    grouped_gemm_kernel(const __grid_constant__ GroupedGemmParams p) {
  using namespace hopper;
  constexpr bool kE4M3 = std::is_same_v<T, E4M3>;
  constexpr bool kQuantize = std::is_same_v<Out, E4M3>;
  constexpr bool kLoadScales = kE4M3 && !kRowScales;
  constexpr int kRowAlignment = kLoadScales ? 4 : 1;
  constexpr int kTileM = 64 * kWarpgroups;
  constexpr int kWeightBytes = kTileM * 128;
  constexpr int kBlockK = 128 / sizeof(T);
  extern __shared__ char unaligned[];
  char* dynamic = unaligned + (-shared_address(unaligned) & 1023);  // the swizzle's atoms
  __shared__ StageRing ring;
  __shared__ TileTable<kRowAlignment> table;
  __shared__ std::conditional_t<kQuantize, QuantizeShared, int> quantize;

  const int warpgroup = __shfl_sync(0xFFFFFFFF, threadIdx.x / 128, 0);  // uniform, and known to be
  const uint32_t rank = p.cluster == 1 ? 0 : cluster_rank();
  const int m_tiles = ceil_div(p.n, kTileM * p.cluster);
  const int slot_rows = tile_width(p.max_piece);
  const int stage_bytes = kWeightBytes + slot_rows * 128;
  const int scale_stride = slot_rows <= kScaleBox ? kScaleBox : 2 * kScaleBox;
  float* scales = reinterpret_cast<float*>(dynamic + p.stages * stage_bytes);

  if (threadIdx.x == 0) {
    ring.init(1, 4 * kWarpgroups * p.cluster);
    if constexpr (kQuantize) mbarrier_init(&quantize.maxima_ready, 8 * p.cluster);
    mbarrier_init_fence();
  }
  if constexpr (kQuantize) {
    for (int i = threadIdx.x; i < 2 * kMaxPiece; i += blockDim.x) quantize.maxima[0][i] = 0;
  }
  wait_for_previous_kernel();
  table.fill(p, m_tiles);
  if (p.cluster > 1) {
    cluster_sync();
  } else {
    __syncthreads();
  }

  TileWalk<kRowAlignment> walk(table, m_tiles, p.cluster, p.max_piece);
  Tile tile;
  StageAt at;
  if (warpgroup == kWarpgroups) {
    if constexpr (kWarpgroups > 1) registers_shrink<40>();
    if (threadIdx.x == 128 * kWarpgroups) {
      while (walk.next(p, tile)) {
        const int width = tile_width(tile.rows);
        const int share = p.cluster == 1 ? width : round_up(width / 2, 8);  // the two halves may overlap by 8 rows
        const int first = rank * (width - share);
        const CUtensorMap* x_map = &p.x[share / 8 - 1];
        const int scale_boxes = !kLoadScales ? 0 : width <= kScaleBox ? 1 : 2;
        const uint32_t bytes = kWeightBytes + p.cluster * share * 128 + scale_boxes * kScaleBox * 4;
        const int weight_row = (tile.m_tile * p.cluster + rank) * kTileM;
        for (int block = 0; block < p.k_blocks; ++block) {
          char* weights = dynamic + at.index * stage_bytes;
          char* tokens = weights + kWeightBytes + first * 128;
          uint64_t* full = &ring.full[at.index];
          mbarrier_wait(&ring.empty[at.index], at.parity ^ 1);
          mbarrier_arrive_expect(full, bytes);
          tma_load_3d(weights, &p.w, full, block * kBlockK, weight_row, tile.group, kEvictFirst);
          if (p.cluster == 1) {
            tma_load_2d(tokens, x_map, full, block * kBlockK, tile.row + first, kEvictLast);
          } else {
            tma_multicast_2d(tokens, x_map, full, block * kBlockK, tile.row + first, 3, kEvictLast);
          }
          for (int i = 0; i < scale_boxes; ++i)
            tma_load_2d(scales + at.index * scale_stride + i * kScaleBox, &p.x_scales, full, tile.row + i * kScaleBox,
                        block, kEvictLast);
          at.advance(p.stages);
        }
      }
    }
  } else {
    if constexpr (kWarpgroups > 1) registers_grow<232>();
    // Through a shuffle, so that the compiler keeps the lane rather than reading it again wherever it needs it.
    const int lane = __shfl_sync(0xFFFFFFFF, threadIdx.x % 32, threadIdx.x % 32);
    const int warp = __shfl_sync(0xFFFFFFFF, threadIdx.x / 32, 0);
    Operands operands;
    operands.full = __shfl_sync(0xFFFFFFFF, shared_address(&ring.full[0]), 0);
    operands.empty = mbarrier_in_cluster(shared_address(&ring.empty[0]), min(lane, p.cluster - 1));
    operands.releases = lane < p.cluster;
    operands.weights = wgmma_descriptor_low(shared_address(dynamic)) + warpgroup * (64 * 128 / 16);
    operands.tokens = wgmma_descriptor_low(shared_address(dynamic) + kWeightBytes);
    operands.stage_units = stage_bytes / 16;
    operands.scales = shared_address(scales) + lane % 4 * 8;
    operands.scale_bytes = scale_stride * 4;
    operands.stages = p.stages;
    uint32_t tile_count = 0;
    while (walk.next(p, tile)) {
      Output out;
      out.row = tile.row;
      out.first = tile.first;
      out.rows = tile.rows;
      out.column = (tile.m_tile * p.cluster + rank) * kTileM + warp * 16;
      out.columns = p.n;
      float scale0 = 1.0f, scale1 = 1.0f;
      const float* block_scales = nullptr;
      if constexpr (kE4M3) {
        const int r = out.column + lane / 4;
        if (p.channel_scales && out.column < p.n) {
          scale0 = __ldg(p.channel_scales + int64_t{tile.group} * p.n + r);
          scale1 = __ldg(p.channel_scales + int64_t{tile.group} * p.n + r + 8);
        }
        if (p.block_scales)
          block_scales =
              p.block_scales + (int64_t{tile.group} * ceil_div(p.n, 128) + min(out.column, p.n - 1) / 128) * p.k_blocks;
      }
      with_width<kMaxN>(tile_width(tile.rows), [&]<int N>() {
        float total[N / 2];
        if constexpr (kLoadScales) {
          accumulate_scaled<N>(total, operands, p.k_blocks, block_scales, at);
        } else if constexpr (kE4M3) {
          accumulate_e4m3<N>(total, operands, p.k_blocks, at);
        } else {
          sum_stages<T, N>(total, operands, p.k_blocks, at);
        }
        if constexpr (kRowScales) scale_rows<N>(total, p.row_scales, tile.row, p.max_rows, scale0, scale1);
        if constexpr (kQuantize) {
          store_swiglu_e4m3<N>(total, static_cast<uint8_t*>(p.y), out, scale0, scale1, quantize, tile_count,
                               rank == 0 ? p.y_scales + tile.m_tile * p.y_scale_stride : nullptr);
        } else if constexpr (kEpilogue == Epilogue::kSwiglu) {
          store_swiglu<Out, N>(total, static_cast<Out*>(p.y), out);
        } else {
          store_tile<Out, N>(total, static_cast<Out*>(p.y), out, scale0, scale1, static_cast<const uint16_t*>(p.bias));
        }
      });
      ++tile_count;
    }
  }
  start_next_kernel();
  if (p.cluster > 1) {
    __syncwarp();
    cluster_sync();  // neither CTA leaves while the other may still write into it
  }
}

}  // namespace hearth::cuda
