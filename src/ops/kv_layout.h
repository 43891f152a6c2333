// Where a token's keys and values lie in the paged KV cache, and what attention over them computes: one definition for
// the CPU, the kernels and the tests.
//
// Layout. K and V are two arrays of one shape, [num_blocks, kv_heads, 64, head_dim], in the act type or e4m3 (both the
// same; V is not transposed); e4m3 has a float32 scale per token and KV head, [num_blocks, kv_heads, 64] for each
// array. The 64 tokens of a block and head are contiguous: one tile of the attention kernel, one copy.
//
// Rows. Sequence s has query rows query_start[s] .. query_start[s+1]-1, the last of them at position
// context_lens[s]-1; this step's K and V are already in the cache. The row at position p attends to positions
// max(0, p-window+1) .. p (window 0: from 0); position t is token t%64 of block block_tables[s][t/64]. A sequence with
// no rows is padding and none of its other fields is read; rows beyond the last sequence are left as they are.
//
// Value. out[row, h] = sum over t of softmax_t(scale * q[row, h] . K[t, g]) * V[t, g], g = h / (heads / kv_heads), with
// K and V as stored or, e4m3, dequantized: float(e4m3) * scale. A sink is one more logit in the softmax's sum, without
// a value; it is added when all tokens are. Nothing else is quantized: beside e4m3 keys
// a generated token's kernel may bring q to float16, saturating at +-65504, or to the sum of two e4m3 parts relative to
// the head's largest element; either keeps all bits of ordinary bfloat16 values. Products and sums are float32 (those
// of e4m3 by e4m3 as the tensor cores make them: to 2^-13 of the largest); probabilities, dequantized values, and of
// prompt tokens dequantized keys too, may be rounded to 16 bit before they are multiplied. Stale contents of a block
// (tokens past the row's position: any bits, NaN among them, in K, V or scales) never reach a result.
//
// Order of sums, fixed by a row's position and its sequence's prompt_len:
// - a prompt token (position < prompt_len) walks the blocks in order with a running maximum, in fixed tiles that start
//   at multiples of 64 or 128 tokens;
// - a generated token makes each block of 64 a leaf (a reference, and sum and values relative to it) and merges
//   leaves along the binary tree over block indices of the sequence: node (level n, i) covers blocks i*2^n up to
//   (i+1)*2^n and is merge(left, right), or the one child that exists.
// How tiles and subtrees are dealt to processors then changes no bit. Backends need not agree in their bits.
#pragma once

#include <cstdint>

#include "base/host_device.h"
#include "ops/batch.h"

namespace hearth {

struct KvLayout {
  int64_t kv_heads;
  int64_t head_dim;

  // A token's row for one head, in rows of head_dim elements of K or V; also its index into a scale array.
  HEARTH_HOST_DEVICE constexpr int64_t row(int64_t block, int64_t head, int64_t token_in_block = 0) const {
    return (block * kv_heads + head) * kBlockSize + token_in_block;
  }
  // The row of a slot, as Batch::slots names it.
  HEARTH_HOST_DEVICE constexpr int64_t slot_row(int64_t slot, int64_t head) const {
    return row(slot / kBlockSize, head, slot % kBlockSize);
  }
  HEARTH_HOST_DEVICE constexpr int64_t element(int64_t block, int64_t head, int64_t token_in_block, int64_t dim) const {
    return row(block, head, token_in_block) * head_dim + dim;
  }
};

}  // namespace hearth
