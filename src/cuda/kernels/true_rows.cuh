// How many rows a step really has, read ahead of wait_for_previous_kernel().
//
// What may be read ahead. Steps' inputs are copied to the device before a step's first kernel. Embed, products,
// attention, its plan, dispatch to experts and sample let the next kernel start once the kernel before them has ended;
// norm, route and place, rope, widen_kv and quantize let it start at once, so that it is ready when they end (a decode
// of one token takes 4% less for it). So when a kernel starts, all have ended that come before the last kernel of the
// first kind before it, and what they wrote may be read, past the L1 cache, which may still hold what stood there a
// step ago. One exception: where a step has both kinds of tokens, attention's kernel for generated ones lets the next
// start while the prompts' kernel before it still runs, so that those behind it, up to and with the next product, may
// read early only what came before both. That kernel also writes before it waits, for the prompts' kernel alone: rows
// of the output that are not the prompts', and what nobody else reads; those who read what stood there before have
// ended.
#pragma once

#include <cstdint>

namespace hearth::cuda {

// `each`: how many rows one of *num_rows stands for.
__device__ __forceinline__ int64_t true_rows(const int32_t* num_rows, int64_t rows, int each = 1) {
  return num_rows ? min(rows, int64_t{__ldcg(num_rows)} * each) : rows;
}

}  // namespace hearth::cuda
