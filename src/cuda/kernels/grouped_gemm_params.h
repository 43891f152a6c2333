// What the launcher hands to the grouped_gemm kernel.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "cuda/kernels/grouped_gemm_schedule.h"

namespace hearth::cuda {

struct GroupedGemmParams {
  CUtensorMap w;                // [groups, n / 128, k / 128 bytes, 128, 128 bytes], box: a CTA's rows of a tile
  CUtensorMap x_scales;         // [k / 128, rows], box: kScaleBox rows
  CUtensorMap x[kTokenMaps];    // [rows, k], box i: 8 (i + 1) rows by 128 bytes
  const float* row_scales;      // [rows], where a row has one scale; or null: 1
  const float* channel_scales;  // [groups, n] or none
  const float* block_scales;    // [groups, ceil(n / 128), k_blocks], as grouped_gemm.h says for SwiGLU, or none
  const void* bias;             // [groups, n] or none
  const int32_t* starts;
  const int32_t* ends;
  void* y;
  uint64_t weight_policy, token_policy;  // hopper/l2_policy.h
  float swiglu_limit, swiglu_alpha;      // of a clamped one
  int groups, n, k_blocks;
  int max_piece, stages, cluster;  // the tile the host chose
};

}  // namespace hearth::cuda
