// Batch: one step's flat arrays, the only thing a model knows of sequences. Fixed buffers of the runner; a step uses
// the first num_* entries. On a GPU the counts live in `sizes` too, so that a captured graph serves every batch of its
// bucket.
#pragma once

#include "tensor/tensor.h"

namespace hearth {

constexpr int64_t kBlockSize = 64;  // tokens in a KV block; also the KV tile of every attention kernel

struct Batch {
  // Host-known sizes of this step; a captured graph is launched with those of its bucket and reads the true ones from
  // `sizes`.
  int64_t num_tokens = 0;
  int64_t num_sequences = 0;
  int64_t num_logits = 0;
  bool may_have_prompt = true;  // false: every token was generated; a captured graph has no work for prompts then
  Tensor sizes;                 // i32 [3]: num_tokens, num_sequences, num_logits
  // What ops take as num_rows.
  Tensor true_tokens() const { return sizes ? sizes.rows(0, 1) : Tensor{}; }
  Tensor true_logits() const { return sizes ? sizes.rows(2, 1) : Tensor{}; }

  // A token id below 0 stands for previous_tokens[-1 - id]: a sample of the step before, still on the device.
  Tensor token_ids;        // i32 [num_tokens]
  Tensor previous_tokens;  // i32 [max_logits of the step before]; may be empty
  Tensor positions;        // i32 [num_tokens]
  Tensor slots;            // i64 [num_tokens]: block * kBlockSize + offset in it, where the token's K and V go

  Tensor query_start;   // i32 [num_sequences + 1]: a sequence's rows among the tokens
  Tensor context_lens;  // i32 [num_sequences]: its tokens in the KV cache, this step's included
  Tensor prompt_lens;   // i32 [num_sequences]: positions below it are prompt tokens, the others generated ones
  Tensor block_tables;  // i32 [num_sequences, max_blocks]

  Tensor logit_rows;  // i32 [num_logits]: the tokens whose logits are wanted
};

}  // namespace hearth
