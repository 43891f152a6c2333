#include "cuda/configs/grouped_gemm_config.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <vector>

#include "cuda/kernels/grouped_gemm_schedule.h"

namespace hearth::cuda {
namespace {

TEST(GroupedGemmConfig, EveryChoiceFitsSharedMemoryAndHasDepth) {
  for (DType dtype : {DType::kE4M3, DType::kBF16, DType::kF16})
    for (int64_t n : {64, 4096, 6144, 28672, 128256})
      for (int64_t rows = 1; rows <= 8192; rows = rows * 2 + rows % 3) {
        const GroupedGemmTile tile = choose_tile(dtype, 8, n, 2 * rows, rows, 132);
        EXPECT_LE(shared_bytes(dtype, tile), 227 * 1024 - kStaticBytes);
        EXPECT_TRUE(can_run(tile));
        EXPECT_GE(tile.stages, 4);
        EXPECT_LE(tile.stages, kMaxStages);
        EXPECT_LE(tile.max_piece, tile.warpgroups == 1 ? kNarrowPiece : kMaxPiece);
      }
}

// Kernels that scale within K read whole 32s of tokens.
TEST(GroupedGemmConfig, WhatIsReadBehindTheLastStageIsTheLaunchs) {
  for (int warpgroups : {1, 2})
    for (int cluster : {1, 2})
      for (int piece = 8; piece <= kMaxPiece; piece += 8)
        for (int stages = 2; stages <= kMaxStages; ++stages) {
          const GroupedGemmTile tile{warpgroups, cluster, piece, stages};
          if (!can_run(tile)) continue;
          const int rows = tile_width(piece), read = round_up(rows, 32);
          const int64_t stage = (64 * warpgroups + rows) * 128;
          EXPECT_GE(shared_bytes(DType::kE4M3, tile) - 1024, stages * stage + (read - rows) * 128)
              << piece << " rows, " << stages << " stages";
        }
}

TEST(GroupedGemmConfig, SmallDenseLayersTakeHalfTiles) {
  EXPECT_EQ(choose_tile(DType::kE4M3, 1, 4096, 1, 1, 132).warpgroups, 1);
  EXPECT_EQ(choose_tile(DType::kE4M3, 1, 4096, 8192, 8192, 132).warpgroups, 2);
  EXPECT_EQ(choose_tile(DType::kE4M3, 8, 28672, 16, 8, 132).warpgroups, 2);
}

// One tile a CTA where all of a layer's fit on the SMs: a second one costs a round.
TEST(GroupedGemmConfig, SmallDenseLayersAreNotCutIntoMoreTilesThanMultiprocessors) {
  for (int64_t n : {4096, 6144}) {
    for (int64_t rows : {1, 16, 40, 64}) {
      const GroupedGemmTile tile = choose_tile(DType::kE4M3, 1, n, rows, rows, 132);
      EXPECT_LE(n / (64 * tile.warpgroups) * cut(static_cast<int>(rows), tile.max_piece).pieces, 132)
          << n << " x " << rows;
    }
  }
}

TEST(GroupedGemmConfig, DenseLayersOfSmallPiecesShareNoTokens) {
  const auto tile = [](int64_t n, int64_t rows) {
    GroupedGemmTile t = choose_tile(DType::kE4M3, 1, n, rows, rows, 132);
    t.stages = 0;
    return t;
  };
  EXPECT_EQ(tile(4096, 64), (GroupedGemmTile{1, 1, 64, 0}));
  EXPECT_EQ(tile(4096, 128), (GroupedGemmTile{1, 1, 64, 0}));  // 128 tiles for 132 multiprocessors
  EXPECT_EQ(tile(4096, 256), (GroupedGemmTile{2, 1, 128, 0}));
  EXPECT_EQ(tile(6144, 256), (GroupedGemmTile{2, 1, 128, 0}));
  EXPECT_EQ(tile(6144, 512), (GroupedGemmTile{2, 2, 256, 0}));
}

TEST(GroupedGemmConfig, SlotsFollowAnEvenShareOfTheRows) {
  EXPECT_EQ(choose_tile(DType::kE4M3, 8, 28672, 2 * 1024, 1024, 132).max_piece, 288);
  EXPECT_EQ(choose_tile(DType::kE4M3, 8, 28672, 2 * 704, 704, 132).max_piece, 240);
  EXPECT_EQ(choose_tile(DType::kE4M3, 8, 28672, 2 * 512, 512, 132).max_piece, 192);
  EXPECT_EQ(choose_tile(DType::kE4M3, 8, 28672, 2 * 256, 256, 132).max_piece, 96);
  EXPECT_EQ(choose_tile(DType::kE4M3, 8, 28672, 2 * 8, 8, 132).max_piece, 8);
  EXPECT_GT(choose_tile(DType::kE4M3, 8, 28672, 2 * 256, 256, 132).stages, 6);
}

TEST(GroupedGemmSchedule, PiecesAreEvenAndCoverTheGroup) {
  for (int max_piece : {8, 64, 160, 288})
    for (int rows = 0; rows <= 3000; ++rows) {
      const Pieces p = cut(rows, max_piece);
      EXPECT_EQ(p.rows % kPieceStep, 0);
      EXPECT_LE(p.rows, max_piece);
      if (rows == 0) {
        EXPECT_EQ(p.pieces, 0);
        continue;
      }
      EXPECT_GE(p.pieces * p.rows, rows);
      EXPECT_LT((p.pieces - 1) * p.rows, rows);  // none is empty
    }
}

TEST(GroupedGemmSchedule, IdleClustersGetPiecesOfTheLargestGroups) {
  const auto cut_of = [](std::vector<int> rows, int m_tiles, int clusters) {
    std::vector<int> pieces;
    for (int r : rows) pieces.push_back(cut(r, kMaxPiece).pieces);
    cut_more(rows.data(), pieces.data(), static_cast<int>(rows.size()), m_tiles, clusters, OneLane());
    return pieces;
  };
  const std::vector<int> uneven{167, 321, 205, 290, 240, 0, 275, 300, 250};
  // 160 tiles for 198 places: two more pieces of 16 tiles.
  EXPECT_EQ(cut_of({167, 321, 205, 290, 240, 275, 285, 250}, 16, 66), (std::vector<int>{1, 2, 1, 2, 1, 2, 2, 1}));
  EXPECT_EQ(cut_of(uneven, 112, 66), (std::vector<int>{1, 2, 1, 2, 1, 0, 1, 2, 1}));  // no room for 112
  EXPECT_EQ(cut_of({256, 256, 256, 256}, 33, 66), (std::vector<int>{1, 1, 1, 1}));    // both rounds are full
  EXPECT_EQ(cut_of({120, 64}, 4, 66), (std::vector<int>{1, 1}));                      // not worth it
  EXPECT_EQ(cut_of({1000}, 4, 66), (std::vector<int>{4}));                            // a dense layer: choose_tile's
  for (int seed = 0; seed < 200; ++seed) {
    std::mt19937 random(static_cast<uint32_t>(seed));
    std::vector<int> rows(8);
    for (int& r : rows) r = std::uniform_int_distribution(0, 600)(random);
    int before = 0, after = 0;
    const std::vector<int> pieces = cut_of(rows, 16, 66);
    for (size_t g = 0; g < rows.size(); ++g) {
      before += cut(rows[g], kMaxPiece).pieces * 16, after += pieces[g] * 16;
      EXPECT_LE(pieces[g] > 0 ? cut_into(rows[g], pieces[g]).rows : 0, kMaxPiece);
    }
    EXPECT_GE(after, before);
    EXPECT_EQ(ceil_div(after, 66), ceil_div(before, 66));
  }
}

TEST(GroupedGemmSchedule, EveryTileOfAGroupOnce) {
  for (int pieces : {1, 2, 7, 8, 9, 16, 29})
    for (int m_tiles : {1, 3, 16, 112}) {
      std::set<std::pair<int, int>> seen;
      for (int i = 0; i < pieces * m_tiles; ++i) {
        const TileInGroup at = tile_in_group(i, m_tiles, pieces);
        EXPECT_TRUE(at.m_tile >= 0 && at.m_tile < m_tiles && at.piece >= 0 && at.piece < pieces);
        EXPECT_TRUE(seen.insert({at.m_tile, at.piece}).second);
      }
    }
}

TEST(GroupedGemmSchedule, EveryRoundHandsOutTheNextTiles) {
  for (int clusters : {1, 2, 66}) {
    for (int round = 0; round < 5; ++round) {
      std::set<int> tiles;
      for (int cluster = 0; cluster < clusters; ++cluster) tiles.insert(tile_of_round(round, cluster, clusters));
      EXPECT_EQ(std::ssize(tiles), clusters);
      EXPECT_EQ(*tiles.begin(), round * clusters);
      EXPECT_EQ(*tiles.rbegin(), (round + 1) * clusters - 1);
    }
  }
  EXPECT_EQ(tile_of_round(1, 0, 66), 131);
}

TEST(GroupedGemmSchedule, WidthsHoldTheirRows) {
  int previous = 0;
  for (int rows = 1; rows <= kMaxPiece; ++rows) {
    const int width = tile_width(rows);
    EXPECT_GE(width, rows);
    EXPECT_LE(width, kMaxPiece);
    EXPECT_GE(width, previous);
    EXPECT_EQ(tile_width(width), width);
    previous = width;
  }
}

}  // namespace
}  // namespace hearth::cuda
