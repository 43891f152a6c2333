// What grouped_gemm does with a finished tile of float32, in place of what the epilogue does with one of 16 bit:
// logits, whose columns may end anywhere, for a vocabulary has any size.
#pragma once

#include <type_traits>

#include "cuda/kernels/grouped_gemm_epilogue.cuh"

namespace hearth::cuda {

template <typename Out, int N, bool kRowScales>
requires std::is_same_v<Out, float> __device__ __forceinline__ void store_tile(const float (&total)[N / 2], Out* y,
                                                                               const auto& out, const uint16_t*) {
  const int lane = threadIdx.x % 32;
  Out* at = y + (out.row + lane % 4 * 2) * out.columns + out.column + lane / 4;
  const int inside = out.columns - out.column - lane / 4;  // columns from this thread's first on
#pragma unroll
  for (int i = 0; i < N / 2; ++i) {
    const int token = i / 4 * 8 + lane % 4 * 2 + i % 2;
    if (token >= out.first && token < out.rows && (i & 2) * 4 < inside)
      at[static_cast<int64_t>(i / 4 * 8 + i % 2) * out.columns + (i & 2) * 4] = total[i];
  }
}

}  // namespace hearth::cuda
