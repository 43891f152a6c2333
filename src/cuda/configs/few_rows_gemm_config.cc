// Tile choice of few_rows_gemm. Figures behind it: docs/kernels/few_rows_gemm.md.
#include "cuda/configs/few_rows_gemm_config.h"

#include <algorithm>

#include "cuda/kernels/few_rows_gemm_schedule.h"

namespace hearth::cuda {
namespace {

// Two CTAs on an SM, or four, each with what the hardware keeps for itself and the kernel's barriers.
constexpr int64_t kHalfAnSm = 228 * 1024 / 2 - 1024 - 512;
constexpr int64_t kQuarterOfAnSm = 228 * 1024 / 4 - 1024 - 512;
constexpr int64_t kMostShared = 227 * 1024 - 512;
constexpr int64_t kAlignment = 1024;
constexpr int64_t kPieceBytes = 12;  // in the list of pieces
// Rows of a tile beyond which a stream of weights is the large tiles': a token there meets twice the weights.
constexpr int kMostOfAStream = 16;

int64_t stage_bytes(int rows) { return (kFewRowsTileM + rows) * kWeightTileBytes; }
int k_blocks_of(const FewRowsShape& s) { return static_cast<int>(ceil_div(s.k, int64_t{kWeightTileBytes})); }
int64_t tiles_of(const FewRowsShape& s, int rows) {
  return most_pieces(s.groups, s.max_rows, s.max_group, rows) * ceil_div(s.n, int64_t{kFewRowsTileM});
}
int most_rows(const FewRowsShape& s) { return s.per_128 ? kFewRowsPer128 : kFewRows; }

int64_t bytes_behind_ring(const FewRowsShape& s, const FewRowsTile& tile) {
  const int64_t slots = ceil_div(kFewRowsWarps, tile.cluster);
  // Of a warp: 16 weight rows' sums in float32, one a block of K, or in float16, one a span.
  const int64_t of_warp = s.per_128 ? int64_t{k_blocks_of(s)} * tile.rows * 64
                                    : int64_t{Spans{k_blocks_of(s), true}.count()} * tile.rows * 32;
  const int64_t sums = tile.cluster == 1 ? 0 : slots * of_warp;
  return sums + (s.groups == 1 ? 0 : most_pieces(s.groups, s.max_rows, s.max_group, tile.rows) * kPieceBytes);
}

}  // namespace

int64_t shared_bytes(const FewRowsShape& shape, const FewRowsTile& tile) {
  return kAlignment + tile.stages * stage_bytes(tile.rows) + bytes_behind_ring(shape, tile);
}

bool can_run(const FewRowsShape& shape, const FewRowsTile& tile) {
  const bool cut = tile.rows == 8 || tile.rows == 16 || tile.rows == 32 || tile.rows == most_rows(shape);
  const bool cluster = tile.cluster == 1 || tile.cluster == 2 || tile.cluster == kFewRowsMostCluster;
  const bool all_at_once = tile.ctas >= tile.cluster * tiles_of(shape, tile.rows) &&
                           (!shape.per_128 || k_blocks_of(shape) <= kMostSharedBlocks);
  return cut && cluster && tile.stages >= 2 && tile.stages <= kFewRowsMostStages && tile.ctas >= tile.cluster &&
         tile.ctas % tile.cluster == 0 && (tile.cluster == 1 || all_at_once) &&
         shared_bytes(shape, tile) <= kMostShared;
}

std::optional<FewRowsTile> choose_few_rows_tile(const FewRowsShape& shape, int sm_count) {
  // A dense layer is one piece: in two, its CTAs stream the weights twice, and take longer than large tiles.
  if (shape.max_group > (shape.groups == 1 ? most_rows(shape) : kFewRows)) return std::nullopt;
  FewRowsTile tile{8, 1, 0, 0};
  // A group of more rows than expected is cut: its weights are read again, from the L2 cache.
  const int64_t share = ceil_div(shape.max_rows, shape.groups);
  const int64_t rows = std::min(shape.max_group, shape.groups == 1 ? shape.max_rows : 2 * share + 4);
  while (tile.rows < rows && tile.rows < most_rows(shape)) tile.rows *= 2;
  if (shape.groups > 1 && tile.rows > kMostOfAStream) return std::nullopt;
  const int64_t tiles = tiles_of(shape, tile.rows), places = 2 * sm_count;
  const int k_blocks = k_blocks_of(shape);
  // Where tiles leave places empty, clusters share them; each CTA has enough to do, and the sums leave room for stages.
  const int least_blocks = shape.per_128 ? 4 : kSpanBlocks;
  for (int cluster = kFewRowsMostCluster; cluster > 1 && tile.cluster == 1; cluster /= 2) {
    const bool fits = tiles * cluster <= places && k_blocks >= cluster * least_blocks &&
                      (!shape.per_128 || k_blocks <= kMostSharedBlocks);
    if (fits && bytes_behind_ring(shape, {tile.rows, cluster, 0, 0}) <= kHalfAnSm * 2 / 3) tile.cluster = cluster;
  }
  if (tile.cluster == 1 && tile.rows > kMostOfAStream) return std::nullopt;
  tile.ctas = static_cast<int>(tile.cluster > 1 ? tiles * tile.cluster : std::min(tiles, places));
  // An expert's CTA of a single tile leaves room for the next product's beside another one on its SM.
  const bool walks = tile.cluster == 1 && tiles > places;
  const int64_t room = shape.groups > 1 && tile.cluster == 1 && !walks ? kQuarterOfAnSm : kHalfAnSm;
  const int64_t fit = (room - kAlignment - bytes_behind_ring(shape, tile)) / stage_bytes(tile.rows);
  const int own_blocks =
      shape.per_128 ? ceil_div(k_blocks, tile.cluster) : most_blocks_of_a_rank(k_blocks, tile.cluster);
  const int64_t wanted = walks ? kFewRowsMostStages : own_blocks;
  tile.stages = static_cast<int>(std::clamp<int64_t>(std::min(wanted, fit), 2, kFewRowsMostStages));
  return tile;
}

}  // namespace hearth::cuda
