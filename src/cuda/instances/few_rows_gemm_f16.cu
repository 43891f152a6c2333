// few_rows_gemm: to F16, kStore.
#include "cuda/kernels/few_rows_gemm.cuh"
#include "cuda/kernels/few_rows_gemm_instance.h"

namespace hearth::cuda {
HEARTH_FEW_ROWS_DEFINE(f16, F16, Epilogue::kStore)
}  // namespace hearth::cuda
