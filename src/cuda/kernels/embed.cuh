// embed: out[i] = table[token(i)]. A token outside the table, which only a row of padding can hold, is brought inside.
#pragma once

#include "cuda/hopper/cluster.cuh"
#include "cuda/kernels/vector.cuh"

namespace hearth::cuda {

struct EmbedParams {
  const uint4* table;        // [vocab, vectors]
  const int32_t* token_ids;  // below 0: previous[-1 - id]
  const int32_t* previous;
  uint4* out;
  const int32_t* num_rows;
  int64_t vocab, num_previous;
  int vectors;
};

// Not a template, but every .cu that includes it has its own.
static __global__ void embed_kernel(const EmbedParams p) {
  hopper::wait_for_previous_kernel();
  hopper::start_next_kernel();
  const int64_t row = blockIdx.x;
  if (p.num_rows && row >= *p.num_rows) return;
  int64_t token = p.token_ids[row];
  if (token < 0 && p.num_previous > 0) token = p.previous[min(-1 - token, p.num_previous - 1)];
  token = max(int64_t{0}, min(token, p.vocab - 1));
  const int at = blockIdx.y * kRowThreads + threadIdx.x;
  if (at < p.vectors) p.out[row * p.vectors + at] = p.table[token * p.vectors + at];
}

}  // namespace hearth::cuda
