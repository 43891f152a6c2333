// The few_rows_gemm kernels by name; each is defined in instances/few_rows_gemm_NAME.cu, so that they compile side by
// side.
#pragma once

namespace hearth::cuda {

// The kernel for tiles of 8, 16, 32 or 64 rows, for cudaLaunchKernel.
#define HEARTH_FEW_ROWS_DECLARE(name) const void* few_rows_gemm_##name(int rows)
HEARTH_FEW_ROWS_DECLARE(bf16);
HEARTH_FEW_ROWS_DECLARE(f16);
HEARTH_FEW_ROWS_DECLARE(swiglu_bf16);
HEARTH_FEW_ROWS_DECLARE(swiglu_f16);
HEARTH_FEW_ROWS_DECLARE(swiglu_e4m3);
HEARTH_FEW_ROWS_DECLARE(clamped_bf16);
HEARTH_FEW_ROWS_DECLARE(clamped_f16);

// In the .cu: HEARTH_FEW_ROWS_DEFINE(bf16, BF16, Epilogue::kStore)
#define HEARTH_FEW_ROWS_DEFINE(name, Out, epilogue)                                           \
  HEARTH_FEW_ROWS_DECLARE(name) {                                                             \
    switch (rows) {                                                                           \
      case 8: return reinterpret_cast<const void*>(few_rows_gemm_kernel<Out, epilogue, 8>);   \
      case 16: return reinterpret_cast<const void*>(few_rows_gemm_kernel<Out, epilogue, 16>); \
      case 32: return reinterpret_cast<const void*>(few_rows_gemm_kernel<Out, epilogue, 32>); \
      default: return reinterpret_cast<const void*>(few_rows_gemm_kernel<Out, epilogue, 64>); \
    }                                                                                         \
  }

}  // namespace hearth::cuda
