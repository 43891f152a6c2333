// grouped_gemm: E4M3 with a scale a row to E4M3, kSwiglu.
#include "cuda/kernels/grouped_gemm.cuh"
#include "cuda/kernels/grouped_gemm_instance.h"

namespace hearth::cuda {
HEARTH_GROUPED_GEMM_DEFINE(e4m3_row_swiglu_e4m3, E4M3, E4M3, Epilogue::kSwiglu, true)
}  // namespace hearth::cuda
