// Host side of grouped_gemm: checks the contract, encodes the tensor maps, launches.
#include "cuda/grouped_gemm.h"

#include <algorithm>

#include "cuda/check.h"
#include "cuda/few_rows_gemm.h"
#include "cuda/hopper/l2_policy.h"
#include "cuda/hopper/tensor_map.h"
#include "cuda/kernels/few_rows_gemm_instance.h"
#include "cuda/kernels/few_rows_gemm_params.h"
#include "cuda/kernels/grouped_gemm_instance.h"
#include "cuda/kernels/grouped_gemm_params.h"
#include "cuda/place.h"
#include "cuda/weight_tiles.h"

namespace hearth::cuda {
namespace {

using Kernel = const void* (*)(int warpgroups);

Kernel find_clamped_kernel(const GroupedGemm& a) {
  const bool row = a.dtype == DType::kE4M3 && a.x_row_scales;
  if (a.out_dtype == DType::kBF16) {
    if (row) return grouped_gemm_e4m3_row_clamped_bf16;
    return a.dtype == DType::kBF16 ? grouped_gemm_bf16_clamped : nullptr;
  }
  if (a.out_dtype == DType::kF16) {
    if (row) return grouped_gemm_e4m3_row_clamped_f16;
    return a.dtype == DType::kF16 ? grouped_gemm_f16_clamped : nullptr;
  }
  return nullptr;
}

Kernel find_kernel(const GroupedGemm& a) {
  if (a.epilogue == Epilogue::kClampedSwiglu) return find_clamped_kernel(a);
  const bool swiglu = a.epilogue == Epilogue::kSwiglu;
  switch (a.dtype) {
    case DType::kE4M3:
      if (a.x_row_scales) {
        if (a.out_dtype == DType::kBF16) return swiglu ? grouped_gemm_e4m3_row_swiglu_bf16 : grouped_gemm_e4m3_row_bf16;
        if (a.out_dtype == DType::kF16) return swiglu ? grouped_gemm_e4m3_row_swiglu_f16 : grouped_gemm_e4m3_row_f16;
        if (a.out_dtype == DType::kE4M3) return swiglu ? grouped_gemm_e4m3_row_swiglu_e4m3 : nullptr;
        return nullptr;
      }
      if (a.out_dtype == DType::kBF16) return swiglu ? grouped_gemm_e4m3_swiglu_bf16 : grouped_gemm_e4m3_bf16;
      if (a.out_dtype == DType::kF16) return swiglu ? grouped_gemm_e4m3_swiglu_f16 : grouped_gemm_e4m3_f16;
      return nullptr;
    case DType::kBF16:
      if (a.out_dtype == DType::kF32) return swiglu ? nullptr : grouped_gemm_bf16_f32;
      if (a.out_dtype != DType::kBF16) return nullptr;
      return swiglu ? grouped_gemm_bf16_swiglu : grouped_gemm_bf16_bf16;
    case DType::kF16:
      if (a.out_dtype == DType::kF32) return swiglu ? nullptr : grouped_gemm_f16_f32;
      if (a.out_dtype != DType::kF16) return nullptr;
      return swiglu ? grouped_gemm_f16_swiglu : grouped_gemm_f16_f16;
    default: return nullptr;
  }
}

const void* find_kernel(const GroupedGemm& a, const FewRowsTile& tile) {
  if (!a.x_row_scales) {
    const bool bf16 = a.out_dtype == DType::kBF16;
    if (is_swiglu(a.epilogue))
      return bf16 ? few_rows_gemm_per_128_swiglu_bf16(tile.rows) : few_rows_gemm_per_128_swiglu_f16(tile.rows);
    return bf16 ? few_rows_gemm_per_128_bf16(tile.rows) : few_rows_gemm_per_128_f16(tile.rows);
  }
  if (a.epilogue == Epilogue::kClampedSwiglu) {
    return a.out_dtype == DType::kBF16 ? few_rows_gemm_clamped_bf16(tile.rows) : few_rows_gemm_clamped_f16(tile.rows);
  }
  const bool swiglu = a.epilogue == Epilogue::kSwiglu;
  switch (a.out_dtype) {
    case DType::kBF16: return swiglu ? few_rows_gemm_swiglu_bf16(tile.rows) : few_rows_gemm_bf16(tile.rows);
    case DType::kF16: return swiglu ? few_rows_gemm_swiglu_f16(tile.rows) : few_rows_gemm_f16(tile.rows);
    case DType::kE4M3: return swiglu ? few_rows_gemm_swiglu_e4m3(tile.rows) : nullptr;
    default: return nullptr;
  }
}

Status check(const GroupedGemm& a) {
  const bool e4m3 = a.dtype == DType::kE4M3;
  if (!find_kernel(a)) return unimplemented("grouped_gemm: no kernel for these types and epilogue");
  if (a.groups < 1 || a.groups > kMaxGroups) return unimplemented("grouped_gemm: 1 to ", kMaxGroups, " groups");
  if (a.n < 1 || (a.n % 16 && a.out_dtype != DType::kF32) || a.k < 64 || a.k % 64)
    return unimplemented("grouped_gemm: n must be a multiple of 16, but into f32, and k of 64");
  if (a.n > (1 << 30) || a.k > (1 << 30) || a.max_rows > (1 << 30))
    return unimplemented("grouped_gemm: sizes over 2^30");
  if (!a.x || !a.w || !a.y || !a.starts || !a.ends || a.max_rows < 1)
    return internal_error("grouped_gemm: missing operand");
  if (e4m3 != (a.weight_scales != WeightScales::kNone) || e4m3 != (a.w_scales != nullptr) ||
      (e4m3 ? !a.x_scales && !a.x_row_scales : a.x_scales || a.x_row_scales))
    return internal_error("grouped_gemm: e4m3, and it alone, takes scales");
  if (a.x_row_scales && a.k > (1 << 24)) return unimplemented("grouped_gemm: k over 2^24 with a scale a row");
  if (a.x_row_scales && a.weight_scales == WeightScales::kBlock)
    return unimplemented("grouped_gemm: weights scaled per block take activations scaled per 128 of K");
  if (e4m3 && !a.x_row_scales && (a.x_scale_stride % 4 || a.x_scale_stride < a.max_rows))
    return internal_error("grouped_gemm: activation scale stride must be a multiple of 4 and cover the rows");
  if (a.bias && (a.epilogue == Epilogue::kSwiglu || a.out_dtype == DType::kF32))
    return unimplemented("grouped_gemm: bias only with a 16-bit store or a clamped SwiGLU");
  return {};
}

// Boxes of `rows` rows of a tile of weights.
Result<CUtensorMap> weight_map(const GroupedGemm& a, int64_t rows) {
  const int64_t block_k = kWeightTileBytes / dtype_size(a.dtype), k_blocks = ceil_div(a.k, block_k);
  const int64_t weight_tiles = ceil_div(a.n, int64_t{kWeightTileRows}), tile_bytes = kWeightTileRows * kWeightTileBytes;
  return hopper::make_tensor_map(
      a.dtype, a.w, {block_k, kWeightTileRows, k_blocks, weight_tiles, a.groups},
      {kWeightTileBytes, tile_bytes, k_blocks * tile_bytes, weight_tiles * k_blocks * tile_bytes},
      {block_k, rows, 1, 1, 1}, hopper::Swizzle::k128, hopper::Fetch::kAsAsked);
}

// Tokens that fit stay in the L2 cache.
uint64_t token_policy(const GroupedGemm& a) {
  constexpr int64_t kTokensThatStay = 20 << 20;
  return a.max_rows * a.k * dtype_size(a.dtype) <= kTokensThatStay ? hopper::kEvictLast : hopper::kEvictNormal;
}

constexpr int kMostSharedBytes = 227 << 10;  // of a CTA

struct Start {
  int ctas, threads, cluster;
  int64_t shared_bytes;
};
template <typename Params>
Status start(const void* kernel, const Start& how, Params& params, cudaStream_t stream) {
  // As much as there is, whatever this call takes: places of one GPU share the limit.
  cudaFuncAttributes of_kernel;
  HEARTH_TRY(cuda_status(cudaFuncGetAttributes(&of_kernel, kernel), "grouped_gemm"));
  const int most = kMostSharedBytes - static_cast<int>(of_kernel.sharedSizeBytes);
  HEARTH_TRY(
      cuda_status(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most), "grouped_gemm"));
  cudaLaunchAttribute attributes[2];
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim = {static_cast<unsigned>(how.cluster), 1, 1};
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(how.ctas));
  config.blockDim = dim3(static_cast<unsigned>(how.threads));
  config.dynamicSmemBytes = static_cast<size_t>(how.shared_bytes);
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = 2;
  void* arguments[] = {&params};
  return cuda_status(cudaLaunchKernelExC(&config, kernel, arguments), "grouped_gemm");
}

// Rows one group may have at most.
int64_t max_group(const GroupedGemm& a) { return std::min(a.max_group > 0 ? a.max_group : a.max_rows, a.max_rows); }

FewRowsShape few_rows_shape(const GroupedGemm& a) {
  return {a.groups, a.n, a.k, a.max_rows, max_group(a), !a.x_row_scales};
}

}  // namespace

Status grouped_gemm(const GroupedGemm& a, const GroupedGemmTile& tile, cudaStream_t stream) {
  HEARTH_TRY(check(a));
  if (!can_run(tile)) return internal_error("grouped_gemm: no kernel for this tile");
  const bool e4m3 = a.dtype == DType::kE4M3;
  const int64_t element = dtype_size(a.dtype), block_k = 128 / element;
  const int64_t k_blocks = (a.k + block_k - 1) / block_k;

  GroupedGemmParams p{};
  HEARTH_ASSIGN(p.w, weight_map(a, 64 * tile.warpgroups));
  for (int i = 0; i < kTokenMaps; ++i) {
    HEARTH_ASSIGN(p.x[i], hopper::make_tensor_map(a.dtype, a.x, {a.k, a.max_rows}, {a.k * element},
                                                  {block_k, 8 * (i + 1)}, hopper::Swizzle::k128));
  }
  p.row_scales = a.x_row_scales ? a.x_scales : nullptr;
  if (e4m3 && !a.x_row_scales) {
    HEARTH_ASSIGN(p.x_scales, hopper::make_tensor_map(DType::kF32, a.x_scales, {a.x_scale_stride, k_blocks},
                                                      {a.x_scale_stride * 4}, {kScaleBox, 1}, hopper::Swizzle::kNone));
  }
  p.channel_scales = a.weight_scales == WeightScales::kChannel ? a.w_scales : nullptr;
  p.block_scales = a.weight_scales == WeightScales::kBlock ? a.w_scales : nullptr;
  p.bias = a.bias;
  p.swiglu_limit = a.swiglu_limit;
  p.swiglu_alpha = a.swiglu_alpha;
  p.starts = a.starts;
  p.ends = a.ends;
  p.y = a.y;
  // Weights that are read once, or by a cut group's neighbouring tiles at about the same time, leave the L2 cache
  // first.
  p.weight_policy = a.max_rows <= a.groups * tile.max_piece ? hopper::kEvictFirst : hopper::kEvictNormal;
  p.token_policy = token_policy(a);
  p.groups = static_cast<int>(a.groups);
  p.n = static_cast<int>(a.n);
  p.k_blocks = static_cast<int>(k_blocks);
  p.max_piece = tile.max_piece;
  p.stages = tile.stages;
  p.cluster = tile.cluster;

  const int sm_count = multiprocessors();
  return start(find_kernel(a)(tile.warpgroups),
               {.ctas = sm_count / tile.cluster * tile.cluster,
                .threads = 128 * (tile.warpgroups + 1),
                .cluster = tile.cluster,
                .shared_bytes = shared_bytes(a.dtype, tile)},
               p, stream);
}

Status grouped_gemm(const GroupedGemm& a, const FewRowsTile& tile, cudaStream_t stream) {
  HEARTH_TRY(check(a));
  if (a.dtype != DType::kE4M3 || !can_run(few_rows_shape(a), tile))
    return internal_error("grouped_gemm: no kernel for this tile");
  FewRowsGemmParams p{};
  HEARTH_ASSIGN(p.w, weight_map(a, kFewRowsTileM));
  HEARTH_ASSIGN(p.x, hopper::make_tensor_map(a.dtype, a.x, {a.k, a.max_rows}, {a.k}, {kWeightTileBytes, tile.rows},
                                             hopper::Swizzle::k128));
  (a.x_row_scales ? p.row_scales : p.x_scales) = a.x_scales;
  p.x_scale_stride = a.x_scale_stride;
  (a.weight_scales == WeightScales::kChannel ? p.channel_scales : p.block_scales) = a.w_scales;
  p.bias = a.bias;
  p.swiglu_limit = a.swiglu_limit;
  p.swiglu_alpha = a.swiglu_alpha;
  p.starts = a.starts;
  p.ends = a.ends;
  p.y = a.y;
  p.weight_policy = hopper::kEvictFirst;
  p.token_policy = token_policy(a);
  p.groups = static_cast<int>(a.groups);
  p.n = static_cast<int>(a.n);
  p.k_blocks = static_cast<int>(ceil_div(a.k, int64_t{kWeightTileBytes}));
  p.stages = tile.stages;
  p.cluster = tile.cluster;
  return start(find_kernel(a, tile),
               {.ctas = tile.ctas,
                .threads = kFewRowsThreads,
                .cluster = tile.cluster,
                .shared_bytes = shared_bytes(few_rows_shape(a), tile)},
               p, stream);
}

Status grouped_gemm(const GroupedGemm& args, cudaStream_t stream) {
  const int sm_count = multiprocessors();
  if (args.dtype == DType::kE4M3) {
    if (const auto tile = choose_few_rows_tile(few_rows_shape(args), sm_count))
      return grouped_gemm(args, *tile, stream);
  }
  return grouped_gemm(args, choose_tile(args.dtype, args.groups, args.n, args.max_rows, max_group(args), sm_count),
                      stream);
}

}  // namespace hearth::cuda
