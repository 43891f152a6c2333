// How many rows a step really has, read ahead of wait_for_previous_kernel(); and the rule for what may be read ahead.
//
// A kernel may be resident, and run, while the kernel before it still runs. It waits for that kernel with
// wait_for_previous_kernel(). When the next kernel may start is up to each kernel:
//
// | kernel                                                           | lets the next kernel start    |
// |------------------------------------------------------------------|-------------------------------|
// | embed, products, attention plan, attention, dispatch, sample     | late: after its own wait      |
// | all_reduce, all_gather                                           | late: after its own wait      |
// | norm, shared gate, route, place, rope_append_kv, widen_kv,       | early: at its own beginning   |
// | quantize                                                         |                               |
//
// Rule. Kernel K may read, before its wait, what kernel W wrote, if a late kernel stands between W and K. For the late
// kernel lets others start only when all kernels before it have ended, W among them. Such a read goes past the L1
// cache (__ldcg), which may hold what stood there a step ago.
//
// Example. product P1, norm N, route R, dispatch D, product P2, in this order. D may read early what was written
// before P1. It may not read early what P1, N or R wrote. P2 may read early what P1, N and R wrote, for D is late.
//
// A step's inputs are copied to the device before its first kernel, so every kernel may read them early.
//
// Exception. Where a step has prompt tokens and generated ones, attention is two kernels: the prompts', then the
// generated tokens'. The second lets the next kernel start while the first still runs. So the kernels behind it, up to
// and with the next product, may read early only what was written before both. The second also writes before it waits:
// rows of the output that are not the prompts', and scratch that only it reads. Whoever read what stood there before
// has ended by then.
//
// launch_order.h has this as data, and checks it. Early starts take 4% off a decode of one token.
#pragma once

#include <cstdint>

namespace hearth::cuda {

// `each`: how many rows one of *num_rows stands for.
__device__ __forceinline__ int64_t true_rows(const int32_t* num_rows, int64_t rows, int each = 1) {
  return num_rows ? min(rows, int64_t{__ldcg(num_rows)} * each) : rows;
}

}  // namespace hearth::cuda
