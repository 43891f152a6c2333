// From run-time types and sizes to template parameters, on the host side of the kernels.
#pragma once

#include <type_traits>

#include "cuda/kernels/vector.cuh"

namespace hearth::cuda {

// Calls f with a value of the act type.
template <typename F>
void visit_act(DType dtype, F&& f) {
  if (dtype == DType::kBF16) return f(Bf16{});
  HEARTH_CHECK(dtype == DType::kF16);
  f(Half{});
}

// Calls f with the number of vectors a thread holds of a row, as a constant, and the threads of a block.
template <typename F>
void visit_row(int64_t dim, F&& f) {
  HEARTH_CHECK(dim % kVector == 0 && dim <= 4 * 1024 * kVector);
  const int64_t vectors = dim / kVector;
  const int per_thread = vectors <= 512 ? 1 : vectors <= 1024 ? 2 : 4;
  const auto threads = static_cast<unsigned>(ceil_div(ceil_div(vectors, per_thread), 32) * 32);
  if (per_thread == 1) return f(std::integral_constant<int, 1>{}, threads);
  if (per_thread == 2) return f(std::integral_constant<int, 2>{}, threads);
  f(std::integral_constant<int, 4>{}, threads);
}

template <typename T>
T* data(const Tensor& t) {
  return static_cast<T*>(t.data);
}
inline const int32_t* num_rows_on_device(const Tensor& num_rows) { return num_rows ? num_rows.as<int32_t>() : nullptr; }

}  // namespace hearth::cuda
