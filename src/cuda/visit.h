// From run-time types and sizes to template parameters, on the host side of the kernels.
#pragma once

#include <algorithm>

#include "cuda/kernels/vector.cuh"
#include "cuda/launch.h"

namespace hearth::cuda {

// Calls f with a value of the act type.
template <typename F>
void visit_act(DType dtype, F&& f) {
  if (dtype == DType::kBF16) return f(Bf16{});
  HEARTH_CHECK(dtype == DType::kF16);
  f(Half{});
}

// Blocks for kernels whose threads each take one vector of a row.
inline LaunchShape row_blocks(int64_t rows, int64_t dim) {
  HEARTH_CHECK(dim % kVector == 0);
  const int64_t vectors = dim / kVector;
  return {.grid = {static_cast<unsigned>(rows), static_cast<unsigned>(ceil_div(vectors, kRowThreads))},
          .block = static_cast<unsigned>(std::min<int64_t>(kRowThreads, ceil_div(vectors, 32) * 32))};
}

template <typename T>
T* data(const Tensor& t) {
  return static_cast<T*>(t.data);
}
inline const int32_t* num_rows_on_device(const Tensor& num_rows) { return num_rows ? num_rows.as<int32_t>() : nullptr; }

}  // namespace hearth::cuda
