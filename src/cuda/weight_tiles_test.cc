#include "cuda/weight_tiles.h"

#include <gtest/gtest.h>

#include <vector>

namespace hearth::cuda {
namespace {

TEST(WeightTiles, EveryByteHasAPlaceOfItsOwn) {
  for (const int64_t rows : {1, 16, 128, 400}) {
    for (const int64_t row_bytes : {64, 128, 1152, 320}) {
      std::vector<bool> taken(static_cast<size_t>(weight_bytes(rows, row_bytes)));
      for (int64_t row = 0; row < rows; ++row) {
        for (int64_t byte = 0; byte < row_bytes; ++byte) {
          const auto at = static_cast<size_t>(weight_offset(row, byte, row_bytes));
          ASSERT_LT(at, taken.size());
          ASSERT_FALSE(taken[at]) << row << ", " << byte;
          taken[at] = true;
        }
      }
    }
  }
}

TEST(WeightTiles, ATileIsOnePieceAndTilesFollowAlongK) {
  constexpr int64_t kRowBytes = 4096, kTile = kWeightTileRows * kWeightTileBytes;
  EXPECT_EQ(weight_bytes(256, kRowBytes), 256 * kRowBytes);
  EXPECT_EQ(weight_offset(0, 127, kRowBytes), 127);
  EXPECT_EQ(weight_offset(1, 0, kRowBytes), kWeightTileBytes);
  EXPECT_EQ(weight_offset(127, 127, kRowBytes), kTile - 1);
  EXPECT_EQ(weight_offset(0, 128, kRowBytes), kTile);
  EXPECT_EQ(weight_offset(128, 0, kRowBytes), kRowBytes / kWeightTileBytes * kTile);
}

TEST(WeightTiles, WhatFillsNoTileIsPadded) {
  EXPECT_EQ(weight_bytes(16, 64), kWeightTileRows * kWeightTileBytes);
  EXPECT_EQ(weight_bytes(129, 1152), 2 * 9 * kWeightTileRows * kWeightTileBytes);
}

}  // namespace
}  // namespace hearth::cuda
