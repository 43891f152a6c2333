// Tile choice of grouped_gemm. Figures behind it: docs/kernels/grouped_gemm.md.
#include "cuda/configs/grouped_gemm_config.h"

#include <algorithm>

#include "cuda/kernels/grouped_gemm_schedule.h"

namespace hearth::cuda {
namespace {

constexpr int64_t kSharedBytes = 227 * 1024;  // what a block may have on Hopper
constexpr int64_t kAlignment = 1024;

int64_t scale_bytes(DType dtype, int64_t rows) {
  return dtype == DType::kE4M3 ? (rows <= kScaleBox ? 1 : 2) * kScaleBox * 4 : 0;
}

int64_t stage_bytes(DType dtype, int warpgroups, int max_piece) {
  const int64_t rows = tile_width(max_piece);
  return (64 * warpgroups + rows) * 128 + scale_bytes(dtype, rows);
}

// How a dense layer of `rows` is best cut for tiles of so many weight rows: into the pieces with which all of them take
// the SMs the least time. A tile's is that of its tokens, but of kStream at least, in which its weights arrive, and of
// a start.
struct DenseCut {
  int64_t piece, cost;
};
DenseCut cut_dense(int64_t rows, int64_t n, int64_t tile_rows, int64_t most, int64_t sm_count) {
  constexpr int64_t kStart = 48, kStream = 128;  // in tokens, of 128 weight rows
  DenseCut best{};
  for (int64_t pieces = ceil_div(rows, most);; ++pieces) {
    const int64_t piece = ceil_div(ceil_div(rows, pieces), int64_t{kPieceStep}) * kPieceStep;
    const int64_t tile = std::max(piece, kStream) * tile_rows / 128 + kStart;
    const int64_t cost = ceil_div(ceil_div(n, tile_rows) * pieces, sm_count) * tile;
    if (best.piece == 0 || cost < best.cost) best = {piece, cost};
    if (piece <= kStream) return best;  // smaller ones take as long each, and are more
  }
}

}  // namespace

int stages_that_fit(DType dtype, int warpgroups, int max_piece) {
  const int64_t room = kSharedBytes - kStaticBytes - kAlignment;
  return static_cast<int>(std::min<int64_t>(kMaxStages, room / stage_bytes(dtype, warpgroups, max_piece)));
}

int64_t shared_bytes(DType dtype, const GroupedGemmTile& tile) {
  const int64_t rows = tile_width(tile.max_piece);
  int64_t bytes = tile.stages * stage_bytes(dtype, tile.warpgroups, tile.max_piece) + kAlignment;
  // The loop with a scale for every 128 of K takes tokens 32 at a time. It reads past the last stage's tokens, up to
  // the next multiple of 32 rows of 128 bytes, and does not use what it reads. The stages' scales lie there. Where they
  // are too few bytes, the rest is added here.
  const int64_t behind = (ceil_div(rows, int64_t{32}) * 32 - rows) * 128 - tile.stages * scale_bytes(dtype, rows);
  if (dtype == DType::kE4M3) bytes += std::max<int64_t>(behind, 0);
  return bytes;
}

bool can_run(const GroupedGemmTile& tile) {
  const auto within = [](int value, int low, int high) { return value >= low && value <= high; };
  const int most = tile.warpgroups == 1 ? kNarrowPiece : std::min(kMaxPiece, tile.cluster * kTokenMaps * kPieceStep);
  return within(tile.warpgroups, 1, 2) && within(tile.cluster, 1, 2) && within(tile.max_piece, kPieceStep, most) &&
         tile.max_piece % kPieceStep == 0 && within(tile.stages, 2, kMaxStages);
}

GroupedGemmTile choose_tile(DType dtype, int64_t groups, int64_t n, int64_t max_rows, int64_t max_group, int sm_count) {
  GroupedGemmTile tile{2, 2, kMaxPiece, 0};
  int64_t piece = kMaxPiece;
  if (groups == 1) {
    // Sharing a small token tile saves less than waiting for each other costs.
    constexpr int64_t kSharedPiece = 128;
    const int64_t rows = std::max<int64_t>(max_group, 1);
    DenseCut cut = cut_dense(rows, n, 128, kMaxPiece, sm_count);
    const DenseCut narrow = cut_dense(rows, n, 64, kNarrowPiece, sm_count);
    if (narrow.cost < cut.cost) {
      cut = narrow;
      tile = {1, 1, kNarrowPiece, 0};
    }
    if (cut.piece <= kSharedPiece) tile.cluster = 1;
    piece = cut.piece;
  } else {
    // A stream of weights: tiles of half as many rows where they end sooner.
    if (max_group <= kNarrowPiece) {
      const int64_t rows = std::min(groups, max_rows) * n;
      const auto end = [&](int64_t tile_rows) {
        return ceil_div(ceil_div(rows, tile_rows), int64_t{sm_count}) * tile_rows;
      };
      if (end(64) < end(128)) tile = {1, 1, kNarrowPiece, 0};
    }
    // A group a little over its even share still fits one piece; a much larger one is cut. Between 160 and 224 rows
    // slots stay at steps of 32: those of 176 cut more groups, and a step of 512 tokens gained nothing.
    const int64_t share = (max_rows + groups - 1) / groups;
    piece = std::min(max_group, share + share / 4 + 16);
    if (piece > 160 && piece <= 224) piece = ceil_div(piece, int64_t{32}) * 32;
  }
  // Small token slots leave room for stages, which a stream of weights needs.
  if (piece < tile.max_piece) tile.max_piece = tile_width(static_cast<int>(std::max<int64_t>(piece, 1)));
  tile.stages = stages_that_fit(dtype, tile.warpgroups, tile.max_piece);
  return tile;
}

}  // namespace hearth::cuda
