#include "cuda/attention_plan.h"

#include <gtest/gtest.h>

#include "cuda/fire_attention.h"

namespace hearth::cuda {
namespace {

TEST(AttentionPlan, VisibleBlocks) {
  for (int window : {0, 1, 63, 64, 65, 200}) {
    for (int position : {0, 1, 63, 64, 127, 128, 1000}) {
      const BlockRange blocks = visible_blocks(position, window);
      const int first = first_visible(position, window);
      EXPECT_EQ(first, window == 0 || position < window ? 0 : position - window + 1);
      EXPECT_EQ(blocks.begin, first / 64);
      EXPECT_EQ(blocks.end, position / 64 + 1);
    }
  }
}

// Whole tiles of what any of the rows sees, and no block behind the last.
TEST(AttentionPlan, PromptBlocks) {
  for (int window : {0, 1, 64, 100, 300}) {
    for (int position : {0, 1, 63, 64, 127, 128, 500}) {
      for (int end : {position + 1, position + 64, position + 333}) {
        const BlockRange blocks = prompt_blocks(position, end, window);
        EXPECT_EQ(blocks.begin % (kTileTokens / 64), 0);
        EXPECT_LE(blocks.begin, visible_blocks(position, window).begin);
        EXPECT_GT(blocks.begin + kTileTokens / 64, visible_blocks(position, window).begin);
        EXPECT_EQ(blocks.end, visible_blocks(end - 1, window).end);
      }
    }
  }
  EXPECT_EQ(prompt_blocks(1000, 1100, 0).begin, 0);
}

TEST(AttentionPlan, RunsCoverTheRange) {
  for (int begin : {0, 1, 7, 16, 31}) {
    for (int end : {begin + 1, begin + 2, begin + 17, begin + 100}) {
      for (int level = 0; level < 12; ++level) {
        int runs = 0;
        for (int block = begin; block < end; block = ((block >> level) + 1) << level) ++runs;
        EXPECT_EQ((BlockRange{begin, end}.runs(level)), runs);
      }
    }
  }
}

// Short work is one run for each CTA at most, but none shorter than pays; long work is cut into runs of kLongRun.
TEST(AttentionPlan, SpreadLevel) {
  EXPECT_EQ(spread_level(1, 132), kShortRunLevel);
  EXPECT_EQ(spread_level(4 * 132, 132), 2);
  EXPECT_EQ(spread_level(4 * 132 + 1, 132), 3);
  EXPECT_EQ(spread_level(1024, 132), 3);
  EXPECT_EQ(1 << spread_level(8192, 132), kLongRun);
  EXPECT_EQ(1 << spread_level(int64_t{1} << 40, 132), kLongRun);
  EXPECT_EQ(1 << spread_level(int64_t{1} << 40, 132, kLongRunBeside), kLongRunBeside);
}

// All without generated tokens, half at least with them, and in between what the work asks for.
TEST(AttentionPlan, PrefillCtas) {
  constexpr int64_t kPage = 2 * 64 * 128;  // of e4m3
  EXPECT_EQ(prefill_ctas(0, 0, kPage, 132), 132);
  EXPECT_EQ(prefill_ctas(100, 0, kPage, 132), 132);
  EXPECT_EQ(prefill_ctas(0, 64, kPage, 132), 66);
  EXPECT_EQ(prefill_ctas(1, int64_t{1} << 40, kPage, 1), 1);
  EXPECT_EQ(prefill_ctas(int64_t{1} << 30, 1, kPage, 17), 16);
  // A prompt of 1,024 in items of 32 tokens, and 50 generated tokens with 16 blocks each.
  int64_t blocks = 0;
  for (int item = 0; item < 32; ++item) blocks += (item + 2) / 2 + kPromptItemBlocks;
  EXPECT_EQ(prefill_ctas(blocks, 50 * 16, kPage, 132), 80);
  EXPECT_EQ(prefill_ctas(blocks, 50 * 16, 2 * kPage, 132), 76);
}

TEST(AttentionPlan, AWarpgroupsRowsHoldWholeTokens) {
  for (int group = 1; group <= 8; ++group) {
    EXPECT_LE(prefill_tokens(group) * group, 64);
    EXPECT_GT((prefill_tokens(group) + 1) * group, 64);
  }
}

// As much as a step can ever have, or 64K tokens, or the longest prompt.
TEST(AttentionPlan, BlocksOfAStepsPrompts) {
  EXPECT_EQ(most_prompt_blocks(64, 5, 2), 5 * 2);
  EXPECT_EQ(most_prompt_blocks(3, 5, 2), 3 * 2);
  EXPECT_EQ(most_prompt_blocks(2000, 1000, 2), 1024);
  EXPECT_EQ(most_prompt_blocks(2000, 1000, 2048), 2048);
}

// Every query head is in one part, and no part has more than a team takes.
TEST(AttentionPlan, PartsOfHeads) {
  for (int32_t group = 1; group <= kMostGroup; ++group) {
    const HeadParts parts = head_parts(3, group);
    EXPECT_EQ(parts.all, 3 * parts.each);
    EXPECT_LE(parts.heads, kMostTeamHeads);
    EXPECT_GE(parts.each * parts.heads, group);
    EXPECT_LT((parts.each - 1) * parts.heads, group);
    EXPECT_EQ(parts.each, group <= kMostTeamHeads ? 1 : 2);
  }
}

}  // namespace
}  // namespace hearth::cuda
