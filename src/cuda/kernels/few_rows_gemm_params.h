// What the launcher hands to the few_rows_gemm kernel.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "cuda/kernels/few_rows_gemm_schedule.h"

namespace hearth::cuda {

struct FewRowsGemmParams {
  CUtensorMap w;                // [groups, n / 128, k / 128, 128, 128 bytes], box: 64 rows of a tile
  CUtensorMap x;                // [rows, k], box: the tile's rows by 128 bytes
  const float* row_scales;      // [rows], or null: 1
  const float* x_scales;        // instead, for every 128 of K: [k_blocks, x_scale_stride]
  const float* channel_scales;  // [groups, n], or null: 1
  const float* block_scales;    // instead: as GroupedGemm::w_scales
  const void* bias;             // [groups, n] or none
  const int32_t* starts;
  const int32_t* ends;
  void* y;
  int64_t x_scale_stride;
  uint64_t weight_policy, token_policy;  // hopper/l2_policy.h
  float swiglu_limit, swiglu_alpha;      // of a clamped one
  int groups, n, k_blocks;
  int stages, cluster;
};

}  // namespace hearth::cuda
