// The work list of one step's attention, built on the device once a step (kernels/attention_plan.cuh) and read by the
// attention kernels of every layer. Plain data shared by host and device.
#pragma once

#include <cstdint>

#include "ops/kv_layout.h"

namespace hearth::cuda {

// Generated tokens: one query row and an aligned run of 2^level blocks (cut to those the row sees), for every part of
// its heads.
struct DecodeItem {
  int32_t row;          // of q and out
  int32_t sequence;     // of the block tables
  int32_t begin, end;   // blocks of the sequence
  int32_t first_token;  // the first the row sees
  int32_t position;     // of the row, the last it sees
  int32_t slot;         // of the row's first run among the partial results; -1: the row has one run only
  int32_t appended;     // the first block with a token of this step
};

// Prompt tokens: consecutive query rows of one sequence, for every KV head.
struct PrefillItem {
  int32_t row;       // first row of q and out
  int32_t rows;      // at most prefill_tokens(group) * kPrefillUnits
  int32_t sequence;  // of the block tables
  int32_t position;  // of the first row
};

// With an e4m3 cache, the keys and values that a step's prompt tokens see are widened to the act type, a layer at a
// time, into pages that the prompt kernel reads instead (kernels/widen_kv.cuh). Wide page i is widened from:
struct WidePage {
  int32_t block;   // of the cache
  int32_t tokens;  // of use to a prompt token; the page's others become zeros
};

struct AttentionPlanHeader {
  int32_t decode_items;
  int32_t decode_level;
  int32_t prefill_items;
  int32_t decode_taken;  // by teams that had finished what they were dealt; zero between launches
  int32_t prefill_ctas;  // that take prompt items; the others leave their multiprocessor to generated tokens
  int32_t wide_pages;
};

// Capacities and where each part lies in the plan's memory.
struct AttentionPlan {
  AttentionPlanHeader* header;
  DecodeItem* decode;    // [decode_capacity], longest first
  PrefillItem* prefill;  // [prefill_capacity], longest first
  WidePage* wide_pages;  // [wide_capacity]
  int32_t* wide_tables;  // [max_sequences, max_blocks], as Batch::block_tables, of wide pages; only what prompts see
  int32_t decode_capacity, prefill_capacity, slot_capacity, wide_capacity;
};

// A team takes up to eight query heads of a KV head. More are cut into even parts, each with a team of its own, which
// read the same pages at about the same time.
struct HeadParts {
  int32_t each;   // of a KV head
  int32_t heads;  // query heads of a part; the last of a KV head's may have fewer
  int32_t all;    // of all KV heads
};
constexpr int32_t kMostTeamHeads = 8, kMostGroup = 16;
constexpr HeadParts head_parts(int64_t kv_heads, int64_t group) {
  const int64_t heads = ceil_div(group, ceil_div(group, int64_t{kMostTeamHeads})), each = ceil_div(group, heads);
  return {static_cast<int32_t>(each), static_cast<int32_t>(heads), static_cast<int32_t>(each * kv_heads)};
}

constexpr int kMaxPrefillItems = 4096;  // before they are multiplied by the KV heads
constexpr int kShortRunLevel = 2;       // runs of fewer blocks take longer to merge than to read
constexpr int kLongRun = 32;            // blocks; longer runs only where slots are short
constexpr int kLongRunBeside = 16;      // the same beside prompts, where teams come late and should have something left

constexpr int kPrefillUnits = 2;  // warpgroups that share a prompt item, each with its own tokens
// Tokens of a warpgroup: their query heads are the 64 rows of its products.
HEARTH_HOST_DEVICE constexpr int32_t prefill_tokens(int32_t group) { return 64 / group; }

// Blocks a row sees, and the runs of 2^level blocks they make.
struct BlockRange {
  int32_t begin, end;
  HEARTH_HOST_DEVICE constexpr int32_t runs(int level) const { return ((end - 1) >> level) - (begin >> level) + 1; }
};

HEARTH_HOST_DEVICE constexpr int32_t first_visible(int32_t position, int32_t window) {
  return window > 0 && position >= window ? position - window + 1 : 0;
}
HEARTH_HOST_DEVICE constexpr BlockRange visible_blocks(int32_t position, int32_t window) {
  return {first_visible(position, window) / static_cast<int32_t>(kBlockSize),
          position / static_cast<int32_t>(kBlockSize) + 1};
}

constexpr int32_t kTileTokens = 128;  // keys that a prompt's rows meet at a time, from multiples of it on

// What the prompt tokens from `position` to before `end` see of their sequence: the blocks from those of the first
// row's first tile on.
HEARTH_HOST_DEVICE constexpr BlockRange prompt_blocks(int32_t position, int32_t end, int32_t window) {
  constexpr auto kSize = static_cast<int32_t>(kBlockSize);
  return {first_visible(position, window) / kTileTokens * (kTileTokens / kSize), (end + kSize - 1) / kSize};
}

// The smallest level at which `blocks` blocks (counted over rows and KV heads) are one run for each of `ctas` CTAs,
// from runs of 2^kShortRunLevel to runs of `long_run`: short work spreads over the machine, long work stays in pieces
// that balance.
HEARTH_HOST_DEVICE constexpr int spread_level(int64_t blocks, int64_t ctas, int long_run = kLongRun) {
  int level = kShortRunLevel;
  while ((1 << level) < long_run && (ctas << level) < blocks) ++level;
  return level;
}

// How many CTAs of the prompt kernel take items. There is one CTA a multiprocessor; both kinds of work should end
// together. Work is counted in bytes that a multiprocessor streams in the same time:
//   prompts    prompt_blocks * prompt_block_bytes, where prompt_blocks has kPromptItemBlocks more for each item
//   generated  their pages' bytes, and kDecodeStartBytes more
//   share      ctas * prompts / (prompts + generated), at least half: half of the multiprocessors stream as fast as
//              memory goes
// The constants are fitted to the best shares measured with four query heads of 128 a KV head
// (docs/kernels/fire_attention.md). A share too large costs more than one too small: a team then still has a whole run
// to read when everything else is done.
HEARTH_HOST_DEVICE constexpr int64_t prompt_block_bytes(int64_t page_bytes) { return (4 << 10) + page_bytes * 5 / 8; }
constexpr int64_t kDecodeStartBytes = 1300 << 10;  // for each KV head
constexpr int32_t kPromptItemBlocks = 40;
HEARTH_HOST_DEVICE constexpr int32_t prefill_ctas(int64_t prompt_blocks, int64_t decode_blocks, int64_t page_bytes,
                                                  int32_t ctas) {
  if (decode_blocks == 0) return ctas;
  const int64_t prompt = prompt_blocks * prompt_block_bytes(page_bytes), decode_bytes = decode_blocks * page_bytes;
  const auto share = static_cast<int32_t>(ctas * prompt / (prompt + decode_bytes + kDecodeStartBytes));
  const int32_t least = (ctas + 1) / 2;
  return share > least ? share : least;
}

}  // namespace hearth::cuda
