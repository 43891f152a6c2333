// The grouped_gemm kernel: a persistent cluster of one or two CTAs walks the tiles; in each CTA one warp says which and
// fetches their scales, one thread feeds the stage ring by TMA and kWarpgroups warpgroups multiply, weights on WGMMA's
// M (64 rows a warpgroup), tokens on N. The CTAs of a cluster take neighbouring weight rows and share the token tile:
// each fetches half of it, for both. See docs/kernels/grouped_gemm.md for the picture, grouped_gemm.h for the contract.
#pragma once

#include "cuda/grouped_gemm.h"
#include "cuda/hopper/cluster.cuh"
#include "cuda/hopper/tma.cuh"
#include "cuda/kernels/grouped_gemm_epilogue.cuh"
#include "cuda/kernels/grouped_gemm_math.cuh"
#include "cuda/kernels/grouped_gemm_params.h"
#include "cuda/kernels/grouped_gemm_tiles.cuh"
#include "cuda/weight_tiles.h"

namespace hearth::cuda {

// Calls f<N>() for the narrowest N that holds `width` and is a multiple of kStep.
template <int kMaxN, int kStep, int N = kStep, typename F>
__device__ __forceinline__ void with_width(int width, F&& f) {
  if constexpr (N < kMaxN) {
    if (width > N) return with_width<kMaxN, kStep, round_up(tile_width(N + 1), kStep)>(width, f);
  }
  f.template operator()<N>();
}

template <typename T, typename Out, Epilogue kEpilogue, bool kRowScales, int kWarpgroups, int kMaxN>
__global__ void __launch_bounds__(128 * (kWarpgroups + 1), 1)
    grouped_gemm_kernel(const __grid_constant__ GroupedGemmParams p) {
  using namespace hopper;
  constexpr bool kE4M3 = std::is_same_v<T, E4M3>;
  constexpr bool kPairs = kEpilogue != Epilogue::kStore;  // of gate and up
  constexpr bool kLoadScales = kE4M3 && !kRowScales;
  constexpr int kRowAlignment = kLoadScales ? 4 : 1;
  constexpr int kTileM = 64 * kWarpgroups;
  constexpr int kWeightBytes = kTileM * 128;
  constexpr int kBlockK = 128 / sizeof(T);
  extern __shared__ char unaligned[];
  char* dynamic = unaligned + (-shared_address(unaligned) & 1023);  // the swizzle's atoms
  __shared__ StageRing ring;
  __shared__ Ring<kTileSlots> tiles;
  __shared__ uint64_t scales_full[kTileSlots];
  __shared__ TileSlot<kRowScales ? kMaxN : 2, kTileM> slots[kTileSlots];
  __shared__ TileTable<kRowAlignment> table;

  static_assert(sizeof(ring) + sizeof(tiles) + sizeof(scales_full) + sizeof(slots) + sizeof(table) <= kStaticBytes);

  const int warpgroup = __shfl_sync(0xFFFFFFFF, threadIdx.x / 128, 0);  // uniform, and known to be
  // Through a shuffle, so that the compiler keeps the lane rather than reading it again wherever it needs it.
  const int lane = __shfl_sync(0xFFFFFFFF, threadIdx.x % 32, threadIdx.x % 32);
  const uint32_t rank = p.cluster == 1 ? 0 : cluster_rank();
  const int m_tiles = ceil_div(p.n, kTileM * p.cluster);
  const int slot_rows = tile_width(p.max_piece);
  const int stage_bytes = kWeightBytes + slot_rows * 128;
  const int scale_stride = slot_rows <= kScaleBox ? kScaleBox : 2 * kScaleBox;
  float* scales = reinterpret_cast<float*>(dynamic + p.stages * stage_bytes);

  if (threadIdx.x == 0) {
    ring.init(1, 4 * kWarpgroups * p.cluster);
    // Every thread arrives for what it read or wrote itself: racecheck does not see behind one that arrives for a warp.
    tiles.init(1, 128 * kWarpgroups + 1);
    for (uint64_t& barrier : scales_full) mbarrier_init(&barrier, 32);
    mbarrier_init_fence();
  }
  table.fill(p, m_tiles);
  if (p.cluster > 1) {
    cluster_sync();
  } else {
    __syncthreads();
  }

  StageAt at;
  Stage<kTileSlots> slot;
  if (warpgroup == kWarpgroups) {
    if constexpr (kWarpgroups > 1) registers_shrink<40>();
    const int warp = __shfl_sync(0xFFFFFFFF, threadIdx.x % 128 / 32, 0);
    if (warp == 0 && lane == 0) {  // the producer
      // What the loads of a tile have in common.
      struct Source {
        int group, weight_tile, weight_row, width, share;
        uint32_t bytes;  // a stage's, the other CTA's share of the tokens too
      };
      const auto source_of = [&](const Tile& t) {
        const int row = (t.m_tile * p.cluster + static_cast<int>(rank)) * kTileM, width = tile_width(t.rows);
        const int share = p.cluster == 1 ? width : round_up(width / 2, 8);
        const int scale_boxes = !kLoadScales ? 0 : width <= kScaleBox ? 1 : 2;
        const uint32_t bytes = kWeightBytes + p.cluster * share * 128 + scale_boxes * kScaleBox * 4;
        return Source{t.group, row / kWeightTileRows, row % kWeightTileRows, width, share, bytes};
      };
      const auto load_weights = [&](const Source& from, int stage, int block) {
        mbarrier_arrive_expect(&ring.full[stage], from.bytes);
        tma_load_5d(dynamic + stage * stage_bytes, &p.w, &ring.full[stage], 0, from.weight_row, block, from.weight_tile,
                    from.group, p.weight_policy);
      };
      // The first weights are on their way before the kernel before this one is done.
      int ahead = 0;
      if (Tile tile; TileWalk<kRowAlignment>(table, m_tiles, p.cluster).next(p, tile)) {
        const Source from = source_of(tile);
        for (; ahead < min(p.stages, p.k_blocks); ++ahead) load_weights(from, ahead, ahead);
      }
      wait_for_previous_kernel();
      start_next_kernel();
      for (;; slot.advance()) {
        mbarrier_wait(&tiles.full[slot.index], slot.parity);
        const Tile tile = slots[slot.index].tile;
        if (tile.rows == 0) break;
        mbarrier_arrive(&tiles.empty[slot.index]);
        const Source from = source_of(tile);
        const int first = rank * (from.width - from.share);  // the two shares may overlap by 8 rows
        const CUtensorMap* x_map = &p.x[from.share / 8 - 1];
        for (int block = 0; block < p.k_blocks; ++block) {
          if (ahead > 0) {
            --ahead;
          } else {
            mbarrier_wait(&ring.empty[at.index], at.parity ^ 1);
            load_weights(from, at.index, block);
          }
          uint64_t* full = &ring.full[at.index];
          char* tokens = dynamic + at.index * stage_bytes + kWeightBytes + first * 128;
          if (p.cluster == 1) {
            tma_load_2d(tokens, x_map, full, block * kBlockK, tile.row + first, p.token_policy);
          } else {
            tma_multicast_2d(tokens, x_map, full, block * kBlockK, tile.row + first, 3, p.token_policy);
          }
          if constexpr (kLoadScales) {
            for (int row = 0; row < from.width; row += kScaleBox)
              tma_load_2d(scales + at.index * scale_stride + row, &p.x_scales, full, tile.row + row, block,
                          p.token_policy);
          }
          at.advance(p.stages);
        }
      }
    } else if (warp == 1) {  // the scheduler
      TileWalk<kRowAlignment> walk(table, m_tiles, p.cluster);
      for (bool more = true; more; slot.advance()) {
        Tile tile{};
        more = walk.next(p, tile);
        mbarrier_wait(&tiles.empty[slot.index], slot.parity ^ 1);
        auto& to = slots[slot.index];
        if (lane == 0) {
          to.tile = tile;
          mbarrier_arrive(&tiles.full[slot.index]);
        }
        if (!more) break;
        if constexpr (kE4M3) {
          const int row = (tile.m_tile * p.cluster + static_cast<int>(rank)) * kTileM;
          for (int i = lane; i < kTileM; i += 32) {
            to.channel_scales[i] = p.channel_scales && row + i < p.n
                                       ? __ldg(p.channel_scales + int64_t{tile.group} * p.n + row + i)
                                       : 1.0f;
          }
        }
        if constexpr (kRowScales) {
          wait_for_previous_kernel();
          for (int i = lane; i < tile.rows; i += 32)
            to.row_scales[i] = p.row_scales ? __ldcg(p.row_scales + tile.row + i) : 1.0f;
        }
        if constexpr (kE4M3) mbarrier_arrive(&scales_full[slot.index]);
      }
    }
  } else {
    if constexpr (kWarpgroups > 1) registers_grow<232>();
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
    for (;; slot.advance()) {
      mbarrier_wait(&tiles.full[slot.index], slot.parity);
      auto& from = slots[slot.index];
      const int rows = from.tile.rows;
      if (rows == 0) break;
      // Sums that are scaled on the way are long code: one for every 32 tokens. What lies behind a tile's is read and
      // goes nowhere.
      with_width<kMaxN, kLoadScales ? 32 : 8>(tile_width(rows), [&]<int N>() {
        // What the epilogue needs is read there: registers are scarce before.
        const Tile& tile = from.tile;
        const auto column = [&] { return (tile.m_tile * p.cluster + static_cast<int>(rank)) * kTileM + warp * 16; };
        float total[N / 2];
        if constexpr (kLoadScales) {
          const float* block_scales = nullptr;
          if (p.block_scales) {
            constexpr int kRows = kPairs ? 256 : 128, kEach = kPairs ? 2 : 1;  // gate's and up's, of 128 each
            const int block = (tile.group * ceil_div(p.n, kRows) + min(column(), p.n - 1) / kRows) * kEach;
            block_scales = p.block_scales + int64_t{block} * p.k_blocks;
          }
          accumulate_scaled<N, kPairs>(total, operands, p.k_blocks, block_scales, at);
        } else if constexpr (kE4M3) {
          accumulate_e4m3<N>(total, operands, p.k_blocks, at, column() / 64 % 2);
        } else {
          sum_stages<T, N>(total, operands, p.k_blocks, at);
        }
        if constexpr (kE4M3) mbarrier_wait(&scales_full[slot.index], slot.parity);
        const float* channel = from.channel_scales + warp * 16 + lane / 4;
        const Output out{.row = tile.row,
                         .first = tile.first,
                         .rows = tile.rows,
                         .column = column(),
                         .columns = p.n,
                         .scale0 = kE4M3 ? channel[0] : 1.0f,
                         .scale1 = kE4M3 ? channel[8] : 1.0f,
                         .row_scales = from.row_scales};
        if constexpr (kEpilogue == Epilogue::kSwiglu) {
          store_swiglu<Out, N, kRowScales>(total, static_cast<Out*>(p.y), out);
        } else {
          const uint16_t* bias = static_cast<const uint16_t*>(p.bias);
          if (bias) bias += int64_t{tile.group} * p.n;
          if constexpr (kEpilogue == Epilogue::kClampedSwiglu) {
            store_clamped_swiglu<Out, N, kRowScales>(total, static_cast<Out*>(p.y), out, bias,
                                                     {p.swiglu_limit, p.swiglu_alpha});
          } else {
            store_tile<Out, N, kRowScales>(total, static_cast<Out*>(p.y), out, bias);
          }
        }
      });
      mbarrier_arrive(&tiles.empty[slot.index]);
    }
  }
  if (p.cluster > 1) {
    __syncwarp();
    cluster_sync();  // neither CTA leaves while the other may still write into it
  }
}

}  // namespace hearth::cuda
