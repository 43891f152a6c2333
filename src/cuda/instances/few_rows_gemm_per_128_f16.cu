// few_rows_gemm: a scale for every 128 of K, to F16, kStore.
#include "cuda/kernels/few_rows_gemm.cuh"
#include "cuda/kernels/few_rows_gemm_instance.h"

namespace hearth::cuda {
HEARTH_FEW_ROWS_DEFINE_PER_128(per_128_f16, F16, Epilogue::kStore)
}  // namespace hearth::cuda
