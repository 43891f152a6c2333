// few_rows_gemm: to E4M3, kSwiglu.
#include "cuda/kernels/few_rows_gemm.cuh"
#include "cuda/kernels/few_rows_gemm_instance.h"

namespace hearth::cuda {
HEARTH_FEW_ROWS_DEFINE(swiglu_e4m3, E4M3, Epilogue::kSwiglu)
}  // namespace hearth::cuda
