// From run-time types and sizes to template parameters, on the host side of the kernels.
#pragma once

#include <algorithm>

#include "cuda/kernels/vector.cuh"
#include "cuda/launch.h"
#include "cuda/place.h"

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

// A step of so few rows has a multiprocessor for each: many threads share out a row, for the sake of its latency.
constexpr int64_t kFewRows = 128;

// Starts kernel<kPerThread>, whose blocks of up to `most_threads` walk over rows, a thread having kPerThread of a row's
// vectors at a time, at most kMost, 4 or 8.
template <int kMost, typename Start>
void visit_per_thread(int64_t rows, int64_t hidden, int64_t most_threads, Start&& start) {
  const int64_t least = ceil_div(hidden / kVector, most_threads);
  if (rows <= kFewRows && least == 1) return start.template operator()<1>();
  if (rows <= kFewRows && least == 2) return start.template operator()<2>();
  if (least <= 4) return start.template operator()<4>();
  HEARTH_CHECK(least <= kMost);
  if constexpr (kMost == 8) start.template operator()<8>();
}
// As many blocks as run at once, or as there are rows, or `least`.
template <typename... Params>
LaunchShape walking_blocks(void (*kernel)(Params...), int64_t rows, int64_t hidden, int per_thread, int64_t least = 0) {
  const int64_t threads = ceil_div(ceil_div(hidden / kVector, int64_t{per_thread}), 32) * 32;
  int blocks = 0;
  HEARTH_CUDA_CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, static_cast<int>(threads), 0));
  return {.grid = static_cast<unsigned>(std::min<int64_t>(std::max(rows, least), int64_t{blocks} * multiprocessors())),
          .block = static_cast<unsigned>(threads)};
}

template <typename T>
T* data(const Tensor& t) {
  return static_cast<T*>(t.data);
}
inline const int32_t* num_rows_on_device(const Tensor& num_rows) { return num_rows ? num_rows.as<int32_t>() : nullptr; }

}  // namespace hearth::cuda
