// few_rows_gemm: to BF16, kStore.
#include "cuda/kernels/few_rows_gemm.cuh"
#include "cuda/kernels/few_rows_gemm_instance.h"

namespace hearth::cuda {
HEARTH_FEW_ROWS_DEFINE(bf16, BF16, Epilogue::kStore)
}  // namespace hearth::cuda
