// The tiles of one grouped_gemm launch, on the device: the table of groups in order of work, the walk of a cluster over
// its tiles, and the slot in which a CTA's scheduling warp leaves the next one for the others.
#pragma once

#include "cuda/kernels/grouped_gemm_params.h"
#include "cuda/kernels/grouped_gemm_schedule.h"

namespace hearth::cuda {

// Rows [row + first, row + rows) of x and y. The copy engine reads scales by 16 bytes, so where it does, a group's
// tiles begin at a multiple of 4 rows, with up to 3 rows that are not its own.
struct Tile {
  int group, m_tile, row, first, rows;
};

struct WarpLanes {
  static __device__ int index() { return threadIdx.x % 32; }
  static __device__ int count() { return 32; }
  static __device__ int sum(int value) { return __reduce_add_sync(0xFFFFFFFF, value); }
  static __device__ int most(int value) { return __reduce_max_sync(0xFFFFFFFF, value); }
};

// The groups in the order of work, their row ranges and how many tiles lie before each, in shared memory, for
// the scheduling warp to walk.
template <int kRowAlignment>
struct TileTable {
  int first_tile[kMaxGroups + 1];
  int group[kMaxGroups];
  int start[kMaxGroups];
  int rows[kMaxGroups];
  int count[kMaxGroups];  // of pieces

  __device__ Pieces pieces(int g) const {
    return cut_into(rows[g] > 0 ? rows[g] + start[g] % kRowAlignment : 0, count[g]);
  }

  // By all threads of the CTA, which then synchronise.
  __device__ void fill(const GroupedGemmParams& p, int m_tiles) {
    // Large tiles first. There are at least as many threads as groups.
    static_assert(kMaxGroups <= 256);
    const int g = threadIdx.x, clusters = static_cast<int>(gridDim.x) / p.cluster;
    int first = 0, own = 0, piece = 0, cuts = 0, rank = 0;
    if (g < p.groups) {
      // Past the L1 cache: this is read ahead of wait_for_previous_kernel().
      first = __ldcg(p.starts + g);
      own = __ldcg(p.ends + g) - first;
      rows[g] = own > 0 ? own + first % kRowAlignment : 0;  // until all have compared theirs
      count[g] = cut(rows[g], p.max_piece).pieces;
    }
    if (p.groups > 1 && m_tiles < clusters) {
      __syncthreads();
      if (threadIdx.x < 32) cut_more(rows, count, p.groups, m_tiles, clusters, WarpLanes());
      __syncthreads();
    }
    if (g < p.groups) {
      cuts = count[g];
      if (cuts > 0) piece = cut_into(rows[g], cuts).rows;
      rows[g] = piece;
    }
    __syncthreads();
    if (g < p.groups) {
      for (int other = 0; other < p.groups; ++other) rank += rows[other] > piece || (rows[other] == piece && other < g);
    }
    __syncthreads();
    if (g < p.groups) group[rank] = g, start[rank] = first, rows[rank] = own, count[rank] = cuts;
    __syncthreads();
    if (threadIdx.x < 32) {
      int before = 0;
      for (int base = 0; base < p.groups; base += 32) {
        const int g = base + threadIdx.x;
        const int tiles = g < p.groups ? pieces(g).pieces * m_tiles : 0;
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
  __device__ TileWalk(const TileTable<kRowAlignment>& table, int m_tiles, int cluster)
      : table_(table), m_tiles_(m_tiles), cluster_(blockIdx.x / cluster), clusters_(gridDim.x / cluster) {}

  __device__ bool next(const GroupedGemmParams& p, Tile& tile) {
    const int index = tile_of_round(round_++, cluster_, clusters_);
    if (index >= table_.first_tile[p.groups]) return false;
    while (index >= table_.first_tile[group_ + 1]) ++group_;
    const Pieces pieces = table_.pieces(group_);
    const TileInGroup at = tile_in_group(index - table_.first_tile[group_], m_tiles_, pieces.pieces);
    const int before = table_.start[group_] % kRowAlignment, begin = at.piece * pieces.rows;
    tile = {table_.group[group_], at.m_tile, table_.start[group_] - before + begin, at.piece == 0 ? before : 0,
            min(pieces.rows, before + table_.rows[group_] - begin)};
    return true;
  }

 private:
  const TileTable<kRowAlignment>& table_;
  int m_tiles_, cluster_, clusters_, round_ = 0, group_ = 0;
};

// A tile and what its results will be multiplied by, as the scheduling warp leaves them for the others.
// kScaledRows: tokens of a tile that have a scale each; where none has, anything.
template <int kScaledRows, int kTileM>
struct TileSlot {
  Tile tile;  // of no rows: there are no more
  alignas(8) float row_scales[kScaledRows];
  float channel_scales[kTileM];
};
constexpr int kTileSlots = 2;

}  // namespace hearth::cuda
