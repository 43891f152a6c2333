// grouped_gemm: BF16 to float, kStore.
#include "cuda/kernels/grouped_gemm.cuh"
#include "cuda/kernels/grouped_gemm_instance.h"
#include "cuda/kernels/grouped_gemm_logits.cuh"

namespace hearth::cuda {
HEARTH_GROUPED_GEMM_DEFINE(bf16_f32, BF16, float, Epilogue::kStore, false)
}  // namespace hearth::cuda
