// StepPlan: what one step computes, immutable once made. StepResult: its outcome. Both are flat arrays. A runner adds
// what only its buffers need (positions, slots). Nothing here names a request.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/checked.h"
#include "base/status.h"
#include "ops/backend.h"

namespace hearth {

// A sequence's part of a step: the tokens at positions [start, start + num_tokens). Its last token always has a row of
// logits. The next token is drawn from it; in the middle of a prompt it only shows that the results are finite.
struct StepSequence {
  int64_t sequence = 0;  // Sequence::number
  int32_t start = 0;
  int32_t prompt_len = 0;                   // positions below it are prompt tokens, the others generated ones
  int32_t first_token = 0, num_tokens = 0;  // in token_ids
  int32_t first_block = 0, num_blocks = 0;  // in block_ids: its block table, as far as this step reads and writes
  int32_t first_row = 0, num_rows = 0;      // in rows: positions start + num_tokens - num_rows and up
  bool draws = false;                       // its last row samples a new token

  // KV blocks that its prompt tokens of this step attend to; 0: it has no prompt tokens in this step.
  int64_t prompt_blocks(int64_t block_size) const {
    return start < prompt_len ? ceil_div(std::min<int64_t>(start + num_tokens, prompt_len), block_size) : 0;
  }
};

struct StepPlan {
  int64_t step = 0;
  std::vector<StepSequence> sequences;
  std::vector<int32_t> token_ids;  // below 0: the token that row -1 - id of the previous step draws
  std::vector<int32_t> block_ids;
  std::vector<int32_t> logit_rows;  // by row: its index in token_ids
  std::vector<SamplingRow> rows;
  // A row's edits are at [edit_starts[row], edit_starts[row + 1]), see SampleArgs.
  std::vector<int32_t> edit_starts{0};
  std::vector<int32_t> edit_tokens, edit_counts;
  std::vector<float> edit_biases;
  // Rows that may draw only some tokens, ascending; and the mask of each (Constraint::mask_words of the vocabulary).
  std::vector<int32_t> masked_rows;
  std::vector<std::shared_ptr<const std::vector<int32_t>>> masks;

  // A plan of nothing, which keeps the memory.
  void clear() {
    step = 0;
    sequences.clear();
    for (std::vector<int32_t>* each : {&token_ids, &block_ids, &logit_rows, &edit_tokens, &edit_counts, &masked_rows}) {
      each->clear();
    }
    rows.clear();
    edit_starts.assign(1, 0);
    edit_biases.clear();
    masks.clear();
  }

  int64_t num_tokens() const { return static_cast<int64_t>(token_ids.size()); }
  int64_t num_rows() const { return static_cast<int64_t>(rows.size()); }
  int64_t num_edits() const { return static_cast<int64_t>(edit_tokens.size()); }
  int64_t prompt_blocks(int64_t block_size) const {
    int64_t blocks = 0;
    for (const StepSequence& part : sequences) blocks += part.prompt_blocks(block_size);
    return blocks;
  }
};

// By row of the plan, as SampleArgs describes them.
struct StepResult {
  Status status;  // not ok: the device failed, and nothing else counts
  std::optional<RunTime> device_time;
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;
  std::vector<int32_t> ranks;
  std::vector<int32_t> top_tokens;  // [rows, RunnerLimits::max_logprobs]
  std::vector<float> top_logprobs;
};

}  // namespace hearth
