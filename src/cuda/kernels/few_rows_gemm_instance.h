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
// With a scale for every 128 of K; to 32 rows.
HEARTH_FEW_ROWS_DECLARE(per_128_bf16);
HEARTH_FEW_ROWS_DECLARE(per_128_f16);
HEARTH_FEW_ROWS_DECLARE(per_128_swiglu_bf16);
HEARTH_FEW_ROWS_DECLARE(per_128_swiglu_f16);

// In the .cu: HEARTH_FEW_ROWS_DEFINE(bf16, BF16, Epilogue::kStore)
#define HEARTH_FEW_ROWS_KERNEL(Out, epilogue, row_scales, rows) \
  reinterpret_cast<const void*>(few_rows_gemm_kernel<Out, epilogue, row_scales, rows>)
#define HEARTH_FEW_ROWS_DEFINE(name, Out, epilogue)                    \
  HEARTH_FEW_ROWS_DECLARE(name) {                                      \
    switch (rows) {                                                    \
      case 8: return HEARTH_FEW_ROWS_KERNEL(Out, epilogue, true, 8);   \
      case 16: return HEARTH_FEW_ROWS_KERNEL(Out, epilogue, true, 16); \
      case 32: return HEARTH_FEW_ROWS_KERNEL(Out, epilogue, true, 32); \
      default: return HEARTH_FEW_ROWS_KERNEL(Out, epilogue, true, 64); \
    }                                                                  \
  }
#define HEARTH_FEW_ROWS_DEFINE_PER_128(name, Out, epilogue)             \
  HEARTH_FEW_ROWS_DECLARE(name) {                                       \
    switch (rows) {                                                     \
      case 8: return HEARTH_FEW_ROWS_KERNEL(Out, epilogue, false, 8);   \
      case 16: return HEARTH_FEW_ROWS_KERNEL(Out, epilogue, false, 16); \
      default: return HEARTH_FEW_ROWS_KERNEL(Out, epilogue, false, 32); \
    }                                                                   \
  }

}  // namespace hearth::cuda
