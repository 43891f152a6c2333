// rope_append_kv on the host side.
#include "cuda/kernels/rope_append_kv.cuh"
#include "cuda/launch.h"
#include "cuda/small_kernels.h"
#include "cuda/visit.h"

namespace hearth::cuda {
namespace {

template <typename T, int kHeadDim>
void launch_rope(const RopeAppendKvArgs& args, cudaStream_t stream) {
  const KvCacheLayer& cache = args.cache;
  const bool fp8 = cache.k.dtype == DType::kE4M3;
  HEARTH_CHECK(fp8 || cache.k.dtype == args.qkv.dtype);
  const RopeParams<T> params{
      .qkv = data<T>(args.qkv),
      .positions = args.positions.as<int32_t>(),
      .slots = args.slots.as<int64_t>(),
      .cos_sin = args.cos_sin.as<float>(),
      .k = cache.k.data,
      .v = cache.v.data,
      .k_scales = data<float>(cache.k_scales),
      .v_scales = data<float>(cache.v_scales),
      .static_k_scale = data<float>(args.static_k_scale),
      .static_v_scale = data<float>(args.static_v_scale),
      .num_rows = num_rows_on_device(args.num_rows),
      .tokens = args.qkv.dim(0),
      .heads = static_cast<int>(args.heads),
      .kv_heads = static_cast<int>(args.kv_heads),
      .rotary = static_cast<int>(args.cos_sin.dim(1)),
  };
  HEARTH_CHECK(params.rotary % 16 == 0 && params.rotary <= kHeadDim);
  const int64_t lanes = params.tokens * (args.heads + 2 * args.kv_heads) * (kHeadDim / 16);
  HEARTH_CHECK(lanes <= int64_t{1} << 31);
  const auto kernel = fp8 ? rope_append_kv_kernel<T, kHeadDim, true> : rope_append_kv_kernel<T, kHeadDim, false>;
  launch(kernel, {.grid = static_cast<unsigned>(ceil_div(lanes, kRopeThreads)), .block = kRopeThreads}, stream, params);
}

}  // namespace

void rope_append_kv(const RopeAppendKvArgs& args, cudaStream_t stream) {
  if (args.qkv.dim(0) == 0) return;
  HEARTH_CHECK(args.head_dim == 64 || args.head_dim == 128);
  visit_act(args.qkv.dtype, [&]<typename T>(T) {
    args.head_dim == 64 ? launch_rope<T, 64>(args, stream) : launch_rope<T, 128>(args, stream);
  });
}

}  // namespace hearth::cuda
