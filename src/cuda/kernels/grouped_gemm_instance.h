// The grouped_gemm kernels by name; each is defined in instances/grouped_gemm_NAME.cu, so that they compile side by
// side.
#pragma once

namespace hearth::cuda {

// The kernel for tiles of `warpgroups` warpgroups, for cudaLaunchKernel.
#define HEARTH_GROUPED_GEMM_DECLARE(name) const void* grouped_gemm_##name(int warpgroups)
HEARTH_GROUPED_GEMM_DECLARE(e4m3_bf16);
HEARTH_GROUPED_GEMM_DECLARE(e4m3_f16);
HEARTH_GROUPED_GEMM_DECLARE(e4m3_swiglu_bf16);
HEARTH_GROUPED_GEMM_DECLARE(e4m3_swiglu_f16);
HEARTH_GROUPED_GEMM_DECLARE(e4m3_row_bf16);  // "row": x has one scale a row
HEARTH_GROUPED_GEMM_DECLARE(e4m3_row_f16);
HEARTH_GROUPED_GEMM_DECLARE(e4m3_row_swiglu_bf16);
HEARTH_GROUPED_GEMM_DECLARE(e4m3_row_swiglu_f16);
HEARTH_GROUPED_GEMM_DECLARE(e4m3_row_swiglu_e4m3);
HEARTH_GROUPED_GEMM_DECLARE(bf16_bf16);
HEARTH_GROUPED_GEMM_DECLARE(bf16_f32);
HEARTH_GROUPED_GEMM_DECLARE(bf16_swiglu);
HEARTH_GROUPED_GEMM_DECLARE(f16_f16);
HEARTH_GROUPED_GEMM_DECLARE(f16_f32);
HEARTH_GROUPED_GEMM_DECLARE(f16_swiglu);
HEARTH_GROUPED_GEMM_DECLARE(e4m3_row_clamped_bf16);
HEARTH_GROUPED_GEMM_DECLARE(e4m3_row_clamped_f16);
HEARTH_GROUPED_GEMM_DECLARE(bf16_clamped);
HEARTH_GROUPED_GEMM_DECLARE(f16_clamped);

// In the .cu: HEARTH_GROUPED_GEMM_DEFINE(e4m3_bf16, E4M3, BF16, kStore, false)
#define HEARTH_GROUPED_GEMM_DEFINE(name, In, Out, epilogue, row_scales)                                        \
  HEARTH_GROUPED_GEMM_DECLARE(name) {                                                                          \
    if (warpgroups == 2)                                                                                       \
      return reinterpret_cast<const void*>(grouped_gemm_kernel<In, Out, epilogue, row_scales, 2, kMaxPiece>);  \
    return reinterpret_cast<const void*>(grouped_gemm_kernel<In, Out, epilogue, row_scales, 1, kNarrowPiece>); \
  }

}  // namespace hearth::cuda
