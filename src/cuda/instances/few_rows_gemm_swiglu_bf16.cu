// few_rows_gemm: to BF16, kSwiglu.
#include "cuda/kernels/few_rows_gemm.cuh"
#include "cuda/kernels/few_rows_gemm_instance.h"

namespace hearth::cuda {
HEARTH_FEW_ROWS_DEFINE(swiglu_bf16, BF16, Epilogue::kSwiglu)
}  // namespace hearth::cuda
