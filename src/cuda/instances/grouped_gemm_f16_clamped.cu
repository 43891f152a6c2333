// grouped_gemm: F16 to F16, kClampedSwiglu.
#include "cuda/kernels/grouped_gemm.cuh"
#include "cuda/kernels/grouped_gemm_instance.h"

namespace hearth::cuda {
HEARTH_GROUPED_GEMM_DEFINE(f16_clamped, F16, F16, Epilogue::kClampedSwiglu, false)
}  // namespace hearth::cuda
