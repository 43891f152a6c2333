// Grouped matrix product on Hopper: for every group g and every row r of it, y[r, :] = epilogue(x[r, :] * w[g]^T). A
// dense linear layer is one group.
//
// Rows. Group g owns rows [starts[g], ends[g]) of x and y, read on the device, so that a captured graph serves any
// routing. They and the first weights are read before the kernel before this one has ended: see kernels/true_rows.cuh
// for what must lie between. Starts may be anything (no alignment, gaps, any order); rows outside every group are not
// written.
//
// Numerics. e4m3: within 128 of K the tensor core sums, each such partial sum is multiplied by x_scale * block scale
// and added to a float32 total in order of K; a per-channel scale multiplies the total. With one scale a row of x: the
// tensor core sums 1,024 of K (in every other 64 rows of w, the first 512 apart), such sums are added up, both in
// float16; w must be in units in which none of them overflows (weight_units.h), and x at most kRowE4M3Max.
// Products over more than 2^24 of K are refused.
// 16 bit: one float32 sum in order of K. Which tile computes an element never changes that order: equal rows give equal
// bits.
//
// SwiGLU. Rows of w come interleaved by 8: [16 i, 16 i + 8) are gate rows [8 i, 8 i + 8), the next eight the same rows
// of up. y = silu(gate) * up in float32, [.., n / 2]; to e4m3, from x with one scale a row, as it is: rounded to
// float16 and then to e4m3, saturating. Clamped, as ops/ops.h has it: into 16 bit, from 16 bit or e4m3 with one scale a
// row of x.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "base/status.h"
#include "cuda/configs/grouped_gemm_config.h"
#include "tensor/host_matrix.h"

namespace hearth::cuda {

enum class Epilogue : uint8_t {
  kStore,
  kSwiglu,
  kClampedSwiglu,  // with biases
};
constexpr bool is_swiglu(Epilogue e) { return e != Epilogue::kStore; }

struct GroupedGemm {
  DType dtype = DType::kE4M3;  // of x and w: e4m3, bf16 or f16
  Epilogue epilogue = Epilogue::kStore;
  DType out_dtype = DType::kBF16;  // bf16 or f16 (f32 from 16 bit); SwiGLU also e4m3 where x has one scale a row
  WeightScales weight_scales = WeightScales::kNone;
  int64_t groups = 1;
  int64_t n = 0;                    // rows of one w[g]; a multiple of 16, into f32 any number
  int64_t k = 0;                    // a multiple of 64
  int64_t max_rows = 0;             // rows of x and y, all groups
  int64_t max_group = 0;            // rows one group may have at most; with max_rows it picks the tile, nothing else
  const void* x = nullptr;          // [max_rows, k]
  const float* x_scales = nullptr;  // e4m3: [ceil(k / 128), x_scale_stride], a multiple of 4 that is >= max_rows
  bool x_row_scales = false;        // instead, [max_rows]: one scale a row; or none: 1
  int64_t x_scale_stride = 0;
  const void* w = nullptr;          // [groups, n, k] in tiles (weight_tiles.h); with x_row_scales see above
  const float* w_scales = nullptr;  // kChannel: [groups, n]; kBlock: [groups, ceil(n / 128), ceil(k / 128)], for SwiGLU
                                    // [groups, ceil(n / 256), gate and up, ceil(k / 128)]
  const void* bias = nullptr;       // but for kSwiglu: of out_dtype, 16 bit: [groups, n], or none
  float swiglu_limit = 7.0f, swiglu_alpha = 1.702f;  // kClampedSwiglu
  const int32_t* starts = nullptr;                   // [groups]
  const int32_t* ends = nullptr;                     // [groups]
  void* y = nullptr;                                 // [max_rows, n], SwiGLU: [max_rows, n / 2]
};

// Launches the product on `stream`; refuses what the contract above does not cover.
Status grouped_gemm(const GroupedGemm& args, cudaStream_t stream);

// The same with a tile of the caller's choice, for tests and benchmarks.
Status grouped_gemm(const GroupedGemm& args, const GroupedGemmTile& tile, cudaStream_t stream);

}  // namespace hearth::cuda
