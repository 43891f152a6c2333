// grouped_gemm: E4M3 with a scale a row to BF16, kClampedSwiglu.
#include "cuda/kernels/grouped_gemm.cuh"
#include "cuda/kernels/grouped_gemm_instance.h"

namespace hearth::cuda {
HEARTH_GROUPED_GEMM_DEFINE(e4m3_row_clamped_bf16, E4M3, BF16, Epilogue::kClampedSwiglu, true)
}  // namespace hearth::cuda
