#include "cuda/configs/few_rows_gemm_config.h"

#include <gtest/gtest.h>

#include <random>

#include "cuda/kernels/few_rows_gemm_schedule.h"

namespace hearth::cuda {
namespace {

constexpr int kSms = 132;

// Two CTAs stand on an SM, each with 1 KB of the hardware's and up to 512 bytes of barriers.
constexpr int64_t kHalfAnSm = 228 * 1024 / 2 - 1024 - 512;

TEST(FewRowsConfig, EveryChoiceRunsAndTakesHalfAnSm) {
  for (int64_t groups : {1, 8, 64, 128, 256})
    for (int64_t n : {16, 64, 1536, 2048, 5120, 6144, 28672})
      for (int64_t k : {64, 768, 2048, 4096, 14336})
        for (int64_t tokens = 1; tokens <= 64; ++tokens)
          for (int64_t top_k : {1, 2, 8}) {
            if (groups < top_k) continue;
            for (const bool per_128 : {false, true}) {
              const FewRowsShape shape{groups, n, k, groups == 1 ? tokens : tokens * top_k, tokens, per_128};
              const auto tile = choose_few_rows_tile(shape, kSms);
              if (!tile) continue;
              EXPECT_TRUE(can_run(shape, *tile)) << groups << " " << n << " " << k << " " << tokens << " " << per_128;
              EXPECT_LE(shared_bytes(shape, *tile), kHalfAnSm)
                  << groups << " " << n << " " << k << " " << tokens << " " << per_128;
              EXPECT_LE(tile->ctas, 2 * kSms);
              EXPECT_TRUE(groups > 1 || tile->rows >= std::min<int64_t>(tokens, per_128 ? 32 : 64));
            }
          }
}

TEST(FewRowsConfig, WithAScaleForEvery128OfK) {
  const auto tile = [](FewRowsShape s) { return choose_few_rows_tile(s, kSms); };
  EXPECT_EQ(tile({1, 2048, 4096, 1, 1, true}), (FewRowsTile{8, 4, 8, 128}));  // Qwen3's output projection
  EXPECT_EQ(tile({1, 5120, 2048, 1, 1, true}), (FewRowsTile{8, 2, 8, 160}));  // its qkv
  EXPECT_EQ(tile({1, 5120, 2048, 32, 32, true})->rows, 32);
  EXPECT_FALSE(tile({1, 5120, 2048, 33, 33, true}));
  EXPECT_FALSE(tile({1, 2048, 4096, 64, 64, true}));
  EXPECT_EQ(tile({128, 1536, 2048, 8, 1, true}), (FewRowsTile{8, 1, 6, 8 * 24}));
  EXPECT_EQ(tile({128, 2048, 768, 8, 1, true}), (FewRowsTile{8, 1, 6, 8 * 32}));
  EXPECT_TRUE(tile({128, 2048, 768, 64 * 8, 64, true}));
  EXPECT_FALSE(tile({1, 4096, 14336, 8, 8, true})->cluster > 1);  // more blocks than a cluster shares
  EXPECT_FALSE(can_run({1, 4096, 14336, 8, 8, true}, {8, 2, 4, 128}));
}

TEST(FewRowsConfig, ClustersShareKWhereTilesAreFew) {
  const auto tile = [](int64_t n, int64_t k, int64_t rows) {
    return *choose_few_rows_tile({1, n, k, rows, rows}, kSms);
  };
  EXPECT_EQ(tile(2048, 4096, 1), (FewRowsTile{8, 4, 12, 128}));  // Qwen3's output projection: 32 tiles
  EXPECT_EQ(tile(5120, 2048, 1), (FewRowsTile{8, 2, 12, 160}));  // its qkv: 80
  EXPECT_EQ(tile(6144, 4096, 1).cluster, 2);
  EXPECT_EQ(tile(4096, 14336, 8).cluster, 4);
  EXPECT_EQ(tile(28672, 4096, 8).cluster, 1);
  EXPECT_EQ(tile(2048, 1024, 1).cluster, 1);  // one span: nothing to share
  EXPECT_EQ(tile(2048, 4096, 8).rows, 8);
  EXPECT_EQ(tile(2048, 4096, 9).rows, 16);
  EXPECT_EQ(tile(2048, 4096, 64).rows, 64);
}

// At one token all of an expert's two products are in flight together.
TEST(FewRowsConfig, ExpertsOfOneTokenStandBesideEachOther) {
  const FewRowsShape up{128, 1536, 2048, 8, 1}, down{128, 2048, 768, 8, 1};
  const FewRowsTile first = *choose_few_rows_tile(up, kSms), second = *choose_few_rows_tile(down, kSms);
  EXPECT_EQ(first, (FewRowsTile{8, 1, 6, 8 * 24}));
  EXPECT_EQ(second, (FewRowsTile{8, 1, 6, 8 * 32}));
  const int64_t most = std::max(shared_bytes(up, first), shared_bytes(down, second)) + 1024 + 512;
  EXPECT_GE(228 * 1024 / most * kSms, first.ctas + second.ctas);
}

TEST(FewRowsConfig, WhatLargeTilesDoBetterIsTheirs) {
  EXPECT_FALSE(choose_few_rows_tile({1, 2048, 4096, 65, 65}, kSms));
  EXPECT_FALSE(choose_few_rows_tile({1, 28672, 4096, 64, 64}, kSms));      // Llama's gate and up
  EXPECT_FALSE(choose_few_rows_tile({8, 28672, 4096, 128, 64}, kSms));     // Mixtral: 16 rows an expert
  EXPECT_TRUE(choose_few_rows_tile({128, 1536, 2048, 64 * 8, 64}, kSms));  // Qwen3: 4
  EXPECT_FALSE(choose_few_rows_tile({128, 1536, 2048, 65 * 8, 65}, kSms));
}

TEST(FewRowsConfig, TilesThatNoKernelComputesAreRefused) {
  const FewRowsShape dense{1, 2048, 4096, 8, 8}, experts{8, 2048, 4096, 16, 8};
  EXPECT_TRUE(can_run(dense, {8, 4, 12, 128}));
  EXPECT_FALSE(can_run(dense, {24, 4, 8, 128}));
  EXPECT_FALSE(can_run(dense, {8, 3, 8, 3 * 32}));
  EXPECT_FALSE(can_run(dense, {8, 4, 1, 128}));
  EXPECT_FALSE(can_run(dense, {8, 4, kFewRowsMostStages + 1, 128}));
  EXPECT_FALSE(can_run(dense, {8, 4, 8, 124}));  // a cluster takes one tile
  EXPECT_TRUE(can_run(dense, {8, 1, 8, 3}));
  EXPECT_TRUE(can_run({1, 2048, 4096, 9, 9}, {8, 1, 8, 32}));
  EXPECT_FALSE(can_run({1, 2048, 4096, 9, 9}, {8, 4, 8, 128}));  // two pieces
  EXPECT_TRUE(can_run({8, 2048, 4096, 18, 9}, {8, 1, 8, 32}));
  EXPECT_TRUE(can_run(experts, {8, 2, 8, 8 * 32 * 2}));
  EXPECT_FALSE(can_run(experts, {8, 2, 8, 7 * 32 * 2}));
}

TEST(FewRowsSchedule, SpansAreThoseOfLargeTilesAndEachHasOneCta) {
  for (int k_blocks = 1; k_blocks <= 120; ++k_blocks)
    for (const bool odd : {false, true}) {
      const Spans spans{k_blocks, odd};
      int begin = 0;
      for (int i = 0, length = odd ? kSpanBlocks / 2 : kSpanBlocks; i < spans.count(); ++i, length = kSpanBlocks) {
        EXPECT_EQ(spans.begin(i), begin);
        EXPECT_LT(begin, k_blocks);  // none is empty
        begin = std::min(begin + length, k_blocks);
      }
      EXPECT_EQ(begin, k_blocks);
      EXPECT_EQ(spans.begin(spans.count()), k_blocks);
      for (int cluster = 1; cluster <= kFewRowsMostCluster; cluster *= 2) {
        EXPECT_EQ(spans.first_of(0, cluster), 0);
        EXPECT_EQ(spans.first_of(cluster, cluster), spans.count());
        for (int rank = 0; rank < cluster; ++rank) {
          EXPECT_LE(spans.first_of(rank, cluster), spans.first_of(rank + 1, cluster));
          const int blocks =
              spans.begin(spans.first_of(rank + 1, cluster)) - spans.begin(spans.first_of(rank, cluster));
          EXPECT_LE(blocks, most_blocks_of_a_rank(k_blocks, cluster));
          EXPECT_LE(blocks, ceil_div(k_blocks, cluster) + kSpanBlocks);
        }
      }
    }
  EXPECT_EQ(most_blocks_of_a_rank(32, 4), 12);  // 8 each, or 12, 8, 8 and 4
  EXPECT_EQ(most_blocks_of_a_rank(16, 2), 12);
}

TEST(FewRowsSchedule, PiecesFitTheirList) {
  EXPECT_EQ(most_pieces(128, 8, 1, 8), 8);
  EXPECT_EQ(most_pieces(8, 16, 8, 8), 8);
  EXPECT_EQ(most_pieces(128, 512, 64, 16), 160);
  std::mt19937 random(1);
  for (int i = 0; i < 3000; ++i) {
    const auto draw = [&](int64_t low, int64_t high) { return std::uniform_int_distribution(low, high)(random); };
    const int64_t groups = draw(1, 12), max_group = draw(1, 64);
    int64_t rows = 0, pieces = 0;
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t own = draw(0, 2) == 0 ? 0 : draw(0, max_group);
      rows += own, pieces += ceil_div(own, int64_t{8});
    }
    EXPECT_TRUE(rows == 0 || pieces <= most_pieces(groups, rows, max_group, 8));
  }
}

}  // namespace
}  // namespace hearth::cuda
