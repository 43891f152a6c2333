// grouped_gemm: E4M3 with a scale a row to F16, kClampedSwiglu.
#include "cuda/kernels/grouped_gemm.cuh"
#include "cuda/kernels/grouped_gemm_instance.h"

namespace hearth::cuda {
HEARTH_GROUPED_GEMM_DEFINE(e4m3_row_clamped_f16, E4M3, F16, Epilogue::kClampedSwiglu, true)
}  // namespace hearth::cuda
