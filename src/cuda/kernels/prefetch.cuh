// Asking an array into the L2 cache.
#pragma once

#include <cstdint>

namespace hearth::cuda {

// n values, spread over the grid.
template <typename T>
__device__ __forceinline__ void prefetch_to_l2(const T* p, int64_t n) {
  constexpr int kLine = 128 / sizeof(T);
  for (int64_t i = blockIdx.x * blockDim.x + threadIdx.x; i * kLine < n; i += gridDim.x * blockDim.x) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(p + i * kLine));
  }
}

}  // namespace hearth::cuda
