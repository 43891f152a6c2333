// Tile choice of grouped_gemm. Figures behind it: docs/kernels/grouped_gemm.md.
#include "cuda/configs/grouped_gemm_config.h"

#include <algorithm>

#include "cuda/kernels/grouped_gemm_schedule.h"

namespace hearth::cuda {
namespace {

constexpr int64_t kSharedBytes = 227 * 1024;  // what a block may have on Hopper
constexpr int64_t kAlignment = 1024;

int64_t stage_bytes(DType dtype, int warpgroups, int max_piece) {
  const int64_t rows = tile_width(max_piece);
  const int64_t scales = dtype == DType::kE4M3 ? (rows <= kScaleBox ? 1 : 2) * kScaleBox * 4 : 0;
  return (64 * warpgroups + rows) * 128 + scales;
}

// The piece at which `rows` by so many weight tiles take the fewest rounds of all SMs, a tile's time being its tokens
// and a start that is worth kStart of them.
int64_t dense_piece(int64_t rows, int64_t weight_tiles, int64_t sm_count) {
  constexpr int64_t kStart = 48;
  int64_t best = 0, best_cost = 0;
  for (int64_t pieces = ceil_div(rows, int64_t{kMaxPiece}); pieces <= ceil_div(rows, int64_t{kPieceStep}); ++pieces) {
    const int64_t piece = ceil_div(ceil_div(rows, pieces), int64_t{kPieceStep}) * kPieceStep;
    const int64_t cost = ceil_div(weight_tiles * pieces, sm_count) * (piece + kStart);
    if (best == 0 || cost < best_cost) best = piece, best_cost = cost;
  }
  return best;
}

}  // namespace

int stages_that_fit(DType dtype, int warpgroups, int max_piece) {
  const int64_t room = kSharedBytes - kStaticBytes - kAlignment;
  return static_cast<int>(std::min<int64_t>(kMaxStages, room / stage_bytes(dtype, warpgroups, max_piece)));
}

int64_t shared_bytes(DType dtype, const GroupedGemmTile& tile) {
  return tile.stages * stage_bytes(dtype, tile.warpgroups, tile.max_piece) + kAlignment;
}

bool can_run(const GroupedGemmTile& tile) {
  const auto within = [](int value, int low, int high) { return value >= low && value <= high; };
  const int most = tile.warpgroups == 1 ? kNarrowPiece : std::min(kMaxPiece, tile.cluster * kTokenMaps * kPieceStep);
  return within(tile.warpgroups, 1, 2) && within(tile.cluster, 1, 2) && within(tile.max_piece, kPieceStep, most) &&
         tile.max_piece % kPieceStep == 0 && within(tile.stages, 2, kMaxStages);
}

GroupedGemmTile choose_tile(DType dtype, int64_t groups, int64_t n, int64_t max_rows, int64_t max_group,
                            bool pairs_ctas, int sm_count) {
  GroupedGemmTile tile{2, 2, kMaxPiece, 0};
  // A stream of weights: tiles of half as many rows where they end sooner.
  if (!pairs_ctas && max_group <= kNarrowPiece) {
    const int64_t rows = std::min(groups, max_rows) * n;
    const auto end = [&](int64_t tile_rows) {
      return ceil_div(ceil_div(rows, tile_rows), int64_t{sm_count}) * tile_rows;
    };
    if (end(64) < end(128)) tile = {1, 1, kNarrowPiece, 0};
  }
  // Small token slots leave room for stages, which a stream of weights needs. A group a little over its even share
  // still fits one piece; a much larger one is cut. A dense layer is cut so that all SMs end together.
  const int64_t share = (max_rows + groups - 1) / groups;
  const int64_t piece = groups == 1 ? dense_piece(max_group, ceil_div(n, int64_t{64} * tile.warpgroups), sm_count)
                                    : std::min(max_group, share + share / 4 + 16);
  if (piece < tile.max_piece) tile.max_piece = tile_width(static_cast<int>(std::max<int64_t>(piece, 1)));
  tile.stages = stages_that_fit(dtype, tile.warpgroups, tile.max_piece);
  return tile;
}

}  // namespace hearth::cuda
