#include "cuda/grouped_gemm.h"

#include <gtest/gtest.h>

#include "cuda/kernels/grouped_gemm_schedule.h"

namespace hearth::cuda {
namespace {

// Refused before any call of CUDA's.
TEST(GroupedGemmTiles, OnesThatNoKernelComputesAreRefused) {
  int32_t some = 0;
  GroupedGemm args{DType::kBF16, Epilogue::kStore, DType::kBF16, WeightScales::kNone, 1, 64, 64, 1, 1};
  args.x = args.w = args.y = &some;
  args.starts = args.ends = &some;
  for (const GroupedGemmTile& tile :
       {GroupedGemmTile{1, 1, kNarrowPiece + 8, 4}, GroupedGemmTile{2, 2, kMaxPiece + 8, 4},
        GroupedGemmTile{2, 1, 168, 4}, GroupedGemmTile{2, 2, 64, 1}}) {
    EXPECT_EQ(grouped_gemm(args, tile, nullptr).code(), Code::kInternal) << tile.warpgroups << " " << tile.max_piece;
  }
}

}  // namespace
}  // namespace hearth::cuda
