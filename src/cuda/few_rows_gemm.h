// grouped_gemm by its kernel for groups of few rows (kernels/few_rows_gemm.cuh): e4m3.
// grouped_gemm.h's contract, and the bits of its large tiles; grouped_gemm() picks it by itself where it is the faster.
#pragma once

#include "cuda/configs/few_rows_gemm_config.h"
#include "cuda/grouped_gemm.h"

namespace hearth::cuda {

// With a tile of the caller's choice, for tests and benchmarks.
Status grouped_gemm(const GroupedGemm& args, const FewRowsTile& tile, cudaStream_t stream);

}  // namespace hearth::cuda
