// Builds the work list of a step's attention from what the device knows of the batch: one CTA, once a step. Where items
// land among items of their size depends on timing, and so does which sequence gets which wide pages; results do not
// depend on either.
#pragma once

#include "cuda/attention_plan.h"
#include "cuda/hopper/cluster.cuh"

namespace hearth::cuda {

struct PlanParams {
  const int32_t *sizes, *query_start, *context_lens, *prompt_lens, *block_tables;  // of ops/batch.h
  int64_t max_blocks;
  AttentionPlan plan;
  int32_t kv_heads, group, window, multiprocessors, page_bytes;
  int32_t head_parts;  // of all heads, for generated tokens
};

constexpr int kPlanThreads = 1024;
constexpr int kPlanSizes = 9;  // classes of decode items by size: eighths of a full run

// A row of the batch and its place in its sequence.
struct PlanRow {
  int32_t sequence, offset, rows, position, prompt_len;
  __device__ bool generated() const { return position >= prompt_len; }
  // Rows of the sequence's chunk that are prompt tokens; they come first.
  __device__ int32_t prompt_rows() const { return min(rows, max(0, prompt_len - (position - offset))); }
};

__device__ inline PlanRow plan_row(const PlanParams& p, int32_t sequences, int32_t row) {
  int32_t low = 0, high = sequences - 1;  // the first sequence that ends behind the row
  while (low < high) {
    const int32_t middle = (low + high) / 2;
    if (p.query_start[middle + 1] > row) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  const int32_t start = p.query_start[low], rows = p.query_start[low + 1] - start;
  return {low, row - start, rows, p.context_lens[low] - rows + row - start, p.prompt_lens[low]};
}

// The prompt tokens of a sequence in this step: positions [begin, end).
struct PromptTokens {
  int32_t begin, end;
  __device__ PromptTokens(const PlanParams& p, int32_t sequence) {
    const int32_t rows = p.query_start[sequence + 1] - p.query_start[sequence];
    begin = end = 0;
    if (rows == 0) return;  // padding
    begin = p.context_lens[sequence] - rows;
    end = min(p.context_lens[sequence], p.prompt_lens[sequence]);
  }
  __device__ bool any() const { return end > begin; }
  __device__ BlockRange blocks(int32_t window) const { return prompt_blocks(begin, end, window); }
};

__device__ inline PrefillItem prefill_item(const PlanRow& r, int32_t row, int32_t tokens) {
  return {row, min(tokens, r.prompt_rows() - r.offset), r.sequence, r.position};
}

// One CTA of kPlanThreads.
__device__ inline void build_attention_plan(const PlanParams& p) {
  struct Shared {
    int64_t blocks;                // of generated rows
    int64_t prompt_blocks;         // of prompt items of all units, with kPromptItemBlocks for each
    int32_t tiles[kPrefillUnits];  // prompt items if one has 1 or 2 units
    int32_t slots;                 // of partial results at the level tried
    int32_t next_slot;
    int32_t decode_count[kPlanSizes];  // items of a size, then where the next one goes
    int32_t prefill_count;
    uint64_t wide;  // sequences with prompt tokens (high half), and pages to widen for them
  };
  __shared__ Shared shared;
  __shared__ int32_t key[kMaxPrefillItems], leader[kMaxPrefillItems];
  hopper::wait_for_previous_kernel();
  hopper::start_next_kernel();
  constexpr auto kBlock = static_cast<int32_t>(kBlockSize);
  const int thread = static_cast<int>(threadIdx.x);
  const int32_t sequences = p.sizes[1];
  const int32_t rows = sequences > 0 ? p.query_start[sequences] : 0;
  const auto each_row = [&](auto&& body) {
    for (int32_t row = thread; row < rows; row += kPlanThreads) body(row, plan_row(p, sequences, row));
  };
  const auto tile_tokens = [&](int units) { return units * prefill_tokens(p.group); };

  if (thread == 0) shared = {};
  __syncthreads();
  const auto add = [](int64_t* sum, int32_t count) {
    atomicAdd(reinterpret_cast<unsigned long long*>(sum), static_cast<unsigned long long>(count));
  };
  const auto item_blocks = [&](const PrefillItem& item) {
    return visible_blocks(item.position + item.rows - 1, 0).end - visible_blocks(item.position, p.window).begin;
  };
  each_row([&](int32_t row, const PlanRow& r) {
    if (r.generated()) {
      const BlockRange range = visible_blocks(r.position, p.window);
      add(&shared.blocks, range.end - range.begin);
    } else {
      for (int units = 1; units <= kPrefillUnits; ++units) {
        if (r.offset % tile_tokens(units) == 0) atomicAdd(&shared.tiles[units - 1], 1);
      }
      if (r.offset % tile_tokens(kPrefillUnits) == 0) {
        add(&shared.prompt_blocks, item_blocks(prefill_item(r, row, tile_tokens(kPrefillUnits))) + kPromptItemBlocks);
      }
    }
  });
  // Each such sequence gets consecutive wide pages. One sum counts both, so that the list is in order of the pages.
  const bool widens = p.plan.wide_capacity > 0;
  int32_t *const first_page = key, *const sequence_of = leader;  // until the items are sorted
  for (int32_t s = thread; widens && s < sequences; s += kPlanThreads) {
    const PromptTokens prompt(p, s);
    if (!prompt.any()) continue;
    const BlockRange blocks = prompt.blocks(p.window);
    const unsigned long long one = uint64_t{1} << 32 | static_cast<uint32_t>(blocks.end - blocks.begin);
    const uint64_t before = atomicAdd(reinterpret_cast<unsigned long long*>(&shared.wide), one);
    first_page[before >> 32] = static_cast<int32_t>(before);
    sequence_of[before >> 32] = s;
  }
  __syncthreads();
  // No step needs more pages than there are (Backend::max_prompt_blocks).
  const int32_t wide_pages = min(static_cast<int32_t>(shared.wide), p.plan.wide_capacity);
  for (int32_t page = thread; page < wide_pages; page += kPlanThreads) {
    int32_t low = 0, high = static_cast<int32_t>(shared.wide >> 32) - 1;  // the last sequence that begins up to here
    while (low < high) {
      const int32_t middle = (low + high + 1) / 2;
      if (first_page[middle] <= page) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    const PromptTokens prompt(p, sequence_of[low]);
    const int32_t block = prompt.blocks(p.window).begin + page - first_page[low];
    const int64_t at = sequence_of[low] * p.max_blocks + block;
    p.plan.wide_pages[page] = {p.block_tables[at], min(kBlock, prompt.end - block * kBlock)};
    p.plan.wide_tables[at] = page;
  }

  int level = spread_level(shared.blocks * p.head_parts, p.multiprocessors,
                           shared.prompt_blocks > 0 ? kLongRunBeside : kLongRun);
  for (;; ++level) {
    each_row([&](int32_t, const PlanRow& r) {
      const int32_t runs = r.generated() ? visible_blocks(r.position, p.window).runs(level) : 0;
      if (runs > 1) atomicAdd(&shared.slots, runs);
    });
    __syncthreads();
    const bool fits = shared.slots <= p.plan.slot_capacity;
    __syncthreads();
    if (fits) break;
    if (thread == 0) shared.slots = 0;
    __syncthreads();
  }

  const auto each_run = [&](const PlanRow& r, auto&& body) {
    if (!r.generated()) return;
    const BlockRange range = visible_blocks(r.position, p.window);
    for (int32_t begin = range.begin; begin < range.end;) {
      const int32_t end = min(range.end, ((begin >> level) + 1) << level);
      body(begin, end, kPlanSizes - 1 - static_cast<int>((static_cast<int64_t>(end - begin) * 8) >> level));
      begin = end;
    }
  };
  each_row([&](int32_t, const PlanRow& r) {
    each_run(r, [&](int32_t, int32_t, int size) { atomicAdd(&shared.decode_count[size], 1); });
  });
  __syncthreads();
  const int32_t ctas = prefill_ctas(shared.prompt_blocks, shared.blocks, p.page_bytes, p.multiprocessors);
  // The largest tile that still makes one and a half items a CTA.
  int units = kPrefillUnits;
  while (units > 1 && 2 * static_cast<int64_t>(shared.tiles[units - 1]) * p.kv_heads < 3 * static_cast<int64_t>(ctas))
    --units;
  const int32_t tokens = tile_tokens(units);
  __syncthreads();
  if (thread == 0) {
    int32_t total = 0;
    for (int32_t& count : shared.decode_count) {
      const int32_t here = count;
      count = total;
      total += here;
    }
    *p.plan.header = {total, level, shared.tiles[units - 1], 0, ctas, wide_pages};
  }
  __syncthreads();
  each_row([&](int32_t row, const PlanRow& r) {
    if (r.generated()) {
      const int32_t runs = visible_blocks(r.position, p.window).runs(level);
      const int32_t slot = runs > 1 ? atomicAdd(&shared.next_slot, runs) : -1;
      each_run(r, [&](int32_t begin, int32_t end, int size) {
        p.plan.decode[atomicAdd(&shared.decode_count[size], 1)] = {row,
                                                                   r.sequence,
                                                                   begin,
                                                                   end,
                                                                   first_visible(r.position, p.window),
                                                                   r.position,
                                                                   slot,
                                                                   (r.position - r.offset) / kBlock};
      });
    } else if (r.offset % tokens == 0) {
      const PrefillItem item = prefill_item(r, row, tokens);
      const int32_t at = atomicAdd(&shared.prefill_count, 1);
      key[at] = item_blocks(item);
      leader[at] = row;
    }
  });
  __syncthreads();
  for (int i = thread; i < shared.prefill_count; i += kPlanThreads) {
    int rank = 0;
    for (int j = 0; j < shared.prefill_count; ++j) {
      rank += key[j] > key[i] || (key[j] == key[i] && j < i);
    }
    p.plan.prefill[rank] = prefill_item(plan_row(p, sequences, leader[i]), leader[i], tokens);
  }
}

}  // namespace hearth::cuda
