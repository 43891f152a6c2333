// How few_rows_gemm shares out its work, the same on device and host (where it is tested): K in the spans that
// grouped_gemm sums in float16, and which of them a CTA of a cluster takes.
#pragma once

#include "base/checked.h"
#include "base/host_device.h"
#include "cuda/kernels/grouped_gemm_schedule.h"
#include "cuda/weight_tiles.h"
#include "cuda/weight_units.h"

namespace hearth::cuda {

constexpr int kFewRows = 64;        // the most rows of one tile
constexpr int kFewRowsPer128 = 32;  // where x has a scale for every 128 of K
constexpr int kFewRowsTileM = 64;   // weight rows of a tile
constexpr int kFewRowsWarps = 4;    // that multiply
constexpr int kFewRowsThreads = 32 * (kFewRowsWarps + 1);
constexpr int kFewRowsMostStages = 16;  // of the ring
constexpr int kFewRowsMostCluster = 4;
constexpr int kSpanBlocks = kSumLength / kWeightTileBytes;  // blocks of K in one sum

// The spans of K, in blocks. Those of every other 64 weight rows (`odd`) begin with half a span.
struct Spans {
  int k_blocks;
  bool odd;
  HEARTH_HOST_DEVICE constexpr int half() const { return odd ? kSpanBlocks / 2 : 0; }
  HEARTH_HOST_DEVICE constexpr int count() const { return ceil_div(k_blocks + half(), kSpanBlocks); }
  HEARTH_HOST_DEVICE constexpr int begin(int span) const {
    const int block = span == 0 ? 0 : span * kSpanBlocks - half();
    return block < k_blocks ? block : k_blocks;
  }
  // The first span of CTA `rank` of `cluster`: of the one nearest to its even share. Rank `cluster` begins at the end.
  HEARTH_HOST_DEVICE constexpr int first_of(int rank, int cluster) const {
    if (rank == cluster) return count();
    const int span = (rank * k_blocks / cluster + half() + kSpanBlocks / 2) / kSpanBlocks;
    return rank == 0 ? 0 : span < count() ? span : count();
  }
};

// With a scale for every 128 of K each block is a sum of its own: rank `rank` of `cluster` begins here.
HEARTH_HOST_DEVICE constexpr int first_block_of(int k_blocks, int rank, int cluster) {
  return rank * k_blocks / cluster;
}
constexpr int kMostSharedBlocks = 32;  // that a cluster shares so: the scales are in registers

// The most blocks of K that one CTA of a cluster takes, where sums are of spans.
constexpr int most_blocks_of_a_rank(int k_blocks, int cluster) {
  int most = 0;
  for (const bool odd : {false, true}) {
    const Spans spans{k_blocks, odd};
    for (int rank = 0; rank < cluster; ++rank) {
      const int blocks = spans.begin(spans.first_of(rank + 1, cluster)) - spans.begin(spans.first_of(rank, cluster));
      most = blocks > most ? blocks : most;
    }
  }
  return most;
}

// Pieces of at most `rows` rows that all groups together can have.
constexpr int most_pieces(int64_t groups, int64_t max_rows, int64_t max_group, int rows) {
  const int64_t used = groups < max_rows ? groups : max_rows;
  const int64_t of_one = ceil_div(max_group, int64_t{rows});
  const int64_t by_rows = used + max_rows / rows, by_groups = used * of_one;
  return static_cast<int>(by_rows < by_groups ? by_rows : by_groups);
}

}  // namespace hearth::cuda
