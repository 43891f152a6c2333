// grouped_gemm: E4M3 to E4M3, kSwiglu.
#include "cuda/kernels/grouped_gemm.cuh"
#include "cuda/kernels/grouped_gemm_instance.h"

namespace hearth::cuda {
HEARTH_GROUPED_GEMM_DEFINE(e4m3_swiglu_f16, E4M3, F16, Epilogue::kSwiglu, false)
}  // namespace hearth::cuda
