// Tile choice of grouped_gemm. Figures behind it: docs/kernels/grouped_gemm.md.
#include "cuda/configs/grouped_gemm_config.h"

#include <algorithm>

#include "cuda/kernels/grouped_gemm_schedule.h"

namespace hearth::cuda {
namespace {

constexpr int64_t kSharedBytes = 227 * 1024;  // what a block may have on Hopper
constexpr int64_t kStaticBytes = 8 * 1024;    // barriers, tile table, row maxima
constexpr int64_t kAlignment = 1024;

int64_t stage_bytes(DType dtype, int warpgroups, int max_piece) {
  const int64_t rows = tile_width(max_piece);
  const int64_t scales = dtype == DType::kE4M3 ? (rows <= kScaleBox ? 1 : 2) * kScaleBox * 4 : 0;
  return (64 * warpgroups + rows) * 128 + scales;
}

}  // namespace

int stages_that_fit(DType dtype, int warpgroups, int max_piece) {
  const int64_t room = kSharedBytes - kStaticBytes - kAlignment;
  return static_cast<int>(std::min<int64_t>(kMaxStages, room / stage_bytes(dtype, warpgroups, max_piece)));
}

int64_t shared_bytes(DType dtype, const GroupedGemmTile& tile) {
  return tile.stages * stage_bytes(dtype, tile.warpgroups, tile.max_piece) + kAlignment;
}

GroupedGemmTile choose_tile(DType dtype, int64_t groups, int64_t n, int64_t max_rows, int64_t max_group,
                            bool pairs_ctas, int sm_count) {
  GroupedGemmTile tile{2, 2, kMaxPiece, 0};
  // A small dense layer has too few tiles of 128 weight rows to keep every SM loading: halve them.
  if (!pairs_ctas && max_group <= kNarrowPiece && groups * n < int64_t{128} * sm_count) tile = {1, 1, kNarrowPiece, 0};
  // Small token slots leave room for stages, which a stream of weights needs. A group a little over its even share
  // still fits one piece; a much larger one is cut.
  const int64_t share = (max_rows + groups - 1) / groups;
  const int64_t piece = std::min(max_group, groups == 1 ? share : share + share / 4 + 16);
  if (piece < tile.max_piece) tile.max_piece = tile_width(static_cast<int>(std::max<int64_t>(piece, 1)));
  tile.stages = stages_that_fit(dtype, tile.warpgroups, tile.max_piece);
  return tile;
}

}  // namespace hearth::cuda
