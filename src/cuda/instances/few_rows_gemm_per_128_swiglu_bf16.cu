// few_rows_gemm: a scale for every 128 of K, to BF16, kSwiglu.
#include "cuda/kernels/few_rows_gemm.cuh"
#include "cuda/kernels/few_rows_gemm_instance.h"

namespace hearth::cuda {
HEARTH_FEW_ROWS_DEFINE_PER_128(per_128_swiglu_bf16, BF16, Epilogue::kSwiglu)
}  // namespace hearth::cuda
