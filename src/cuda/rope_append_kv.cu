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
      .q_norm = data<float>(args.norm.q),
      .k_norm = data<float>(args.norm.k),
      .epsilon = args.norm.epsilon,
  };
  HEARTH_CHECK(params.rotary % 16 == 0 && params.rotary <= kHeadDim);
  const auto start = [&]<QkNorm kNorm>() {
    const auto kernel =
        fp8 ? rope_append_kv_kernel<T, kHeadDim, true, kNorm> : rope_append_kv_kernel<T, kHeadDim, false, kNorm>;
    const int64_t lanes = (args.heads + 2 * args.kv_heads) * (kHeadDim / 16);  // of a token
    if constexpr (kNorm == QkNorm::kAllHeads) {
      const int64_t threads = ceil_div(lanes, int64_t{32}) * 32;
      HEARTH_CHECK(threads <= kMostRopeThreads);
      launch(kernel, {.grid = static_cast<unsigned>(params.tokens), .block = static_cast<unsigned>(threads)}, stream,
             params);
    } else {
      HEARTH_CHECK(params.tokens * lanes <= int64_t{1} << 31);
      launch(kernel,
             {.grid = static_cast<unsigned>(ceil_div(params.tokens * lanes, int64_t{kRopeThreads})),
              .block = kRopeThreads},
             stream, params);
    }
  };
  if (!args.norm.q) return start.template operator()<QkNorm::kNone>();
  const bool all_heads = args.norm.q.dim(0) != kHeadDim;
  HEARTH_CHECK(args.norm.q.dim(0) == (all_heads ? args.heads : 1) * kHeadDim);
  HEARTH_CHECK(args.norm.k.dim(0) == (all_heads ? args.kv_heads : 1) * kHeadDim);
  if (all_heads) return start.template operator()<QkNorm::kAllHeads>();
  start.template operator()<QkNorm::kHead>();
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
