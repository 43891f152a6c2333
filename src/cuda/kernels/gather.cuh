// embed and gather_rows: out[i] = table[index(i)]. An index outside the table, which only a row of
// padding can hold, is brought inside.
#pragma once

#include "cuda/hopper/cluster.cuh"
#include "cuda/kernels/vector.cuh"

namespace hearth::cuda {

struct GatherParams {
  const uint4* table;      // [table_rows, vectors]
  const int32_t* indices;  // below 0: previous[-1 - index]
  const int32_t* previous;
  uint4* out;
  const int32_t* num_rows;
  int64_t table_rows, previous_rows;
  int vectors;
};

// Not a template, but every .cu that includes it has its own.
static __global__ void gather_kernel(const GatherParams p) {
  hopper::wait_for_previous_kernel();
  hopper::start_next_kernel();
  const int64_t row = blockIdx.x;
  if (p.num_rows && row >= *p.num_rows) return;
  int64_t index = p.indices[row];
  if (index < 0 && p.previous_rows > 0) index = p.previous[min(-1 - index, p.previous_rows - 1)];
  index = max(int64_t{0}, min(index, p.table_rows - 1));
  const int at = blockIdx.y * kRowThreads + threadIdx.x;
  if (at < p.vectors) p.out[row * p.vectors + at] = p.table[index * p.vectors + at];
}

}  // namespace hearth::cuda
