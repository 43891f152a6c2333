// grouped_gemm: F16 to F16, kStore.
#include "cuda/kernels/grouped_gemm.cuh"
#include "cuda/kernels/grouped_gemm_instance.h"

namespace hearth::cuda {
HEARTH_GROUPED_GEMM_DEFINE(f16_f16, F16, F16, Epilogue::kStore, false)
}  // namespace hearth::cuda
