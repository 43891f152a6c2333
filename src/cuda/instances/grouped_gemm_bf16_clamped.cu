// grouped_gemm: BF16 to BF16, kClampedSwiglu.
#include "cuda/kernels/grouped_gemm.cuh"
#include "cuda/kernels/grouped_gemm_instance.h"

namespace hearth::cuda {
HEARTH_GROUPED_GEMM_DEFINE(bf16_clamped, BF16, BF16, Epilogue::kClampedSwiglu, false)
}  // namespace hearth::cuda
