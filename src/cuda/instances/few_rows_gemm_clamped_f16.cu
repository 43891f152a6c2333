// few_rows_gemm: to F16, kClampedSwiglu.
#include "cuda/kernels/few_rows_gemm.cuh"
#include "cuda/kernels/few_rows_gemm_instance.h"

namespace hearth::cuda {
HEARTH_FEW_ROWS_DEFINE(clamped_f16, F16, Epilogue::kClampedSwiglu)
}  // namespace hearth::cuda
