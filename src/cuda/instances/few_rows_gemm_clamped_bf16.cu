// few_rows_gemm: to BF16, kClampedSwiglu.
#include "cuda/kernels/few_rows_gemm.cuh"
#include "cuda/kernels/few_rows_gemm_instance.h"

namespace hearth::cuda {
HEARTH_FEW_ROWS_DEFINE(clamped_bf16, BF16, Epilogue::kClampedSwiglu)
}  // namespace hearth::cuda
