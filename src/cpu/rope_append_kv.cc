// rope_append_kv: rotates queries and keys by their position and writes keys and values to their slots.
#include "cpu/cpu_ops.h"
#include "cpu/float_types.h"
#include "cpu/quantize.h"
#include "cpu/simd.h"
#include "ops/kv_layout.h"

namespace hearth {
namespace {

void rotate(float* x, const float* cos_sin, int64_t rotary) {
  const int64_t half = rotary / 2;
  for (int64_t i = 0; i < half; ++i) {
    const float a = x[i], b = x[i + half], c = cos_sin[i], s = cos_sin[half + i];
    x[i] = a * c - b * s;
    x[i + half] = b * c + a * s;
  }
}

// One head's key or value into its row of the cache.
void append(const float* x, int64_t n, int64_t row, int64_t head, const Tensor& cache, const Tensor& scales,
            const Tensor& static_scale) {
  if (cache.dtype != DType::kE4M3) {
    visit_act(cache.dtype, [&]<typename T>(T) { simd::convert(x, cache.as<T>() + row * n, n); });
    return;
  }
  E4M3* q = cache.as<E4M3>() + row * n;
  if (static_scale) {
    const float scale = static_scale.as<float>()[head];
    quantize(x, n, 1.0f / scale, q);
    scales.as<float>()[row] = scale;
  } else {
    scales.as<float>()[row] = quantize_group(x, n, q);
  }
}

}  // namespace

void CpuOps::rope_append_kv(const RopeAppendKvArgs& args) {
  const int64_t n = args.head_dim, rotary = args.cos_sin.dim(1), all_heads = args.heads + 2 * args.kv_heads;
  HEARTH_CHECK(rotary % 2 == 0 && rotary <= n && args.qkv.dim(1) == all_heads * n);
  const KvLayout layout{args.kv_heads, n};
  visit_act(args.qkv.dtype, [&]<typename Act>(Act) {
    pool_.run(args.qkv.dim(0), [&](int64_t begin, int64_t end, int thread) {
      float* row = scratch_[thread].rows.reserve(n);
      for (int64_t token = begin; token < end; ++token) {
        const int64_t position = args.positions.as<int32_t>()[token], slot = args.slots.as<int64_t>()[token];
        HEARTH_CHECK(position >= 0 && position < args.cos_sin.dim(0));
        HEARTH_CHECK(slot >= 0 && slot < args.cache.k.dim(0) * kBlockSize);
        const float* cos_sin = args.cos_sin.as<float>() + position * rotary;
        Act* heads = args.qkv.as<Act>() + token * all_heads * n;
        for (int64_t h = 0; h < all_heads; ++h) {
          simd::convert(heads + h * n, row, n);
          const int64_t kv_head = (h - args.heads) % args.kv_heads;
          if (h < args.heads) {
            rotate(row, cos_sin, rotary);
            simd::convert(row, heads + h * n, n);
          } else if (h < args.heads + args.kv_heads) {
            rotate(row, cos_sin, rotary);
            append(row, n, layout.slot_row(slot, kv_head), kv_head, args.cache.k, args.cache.k_scales,
                   args.static_k_scale);
          } else {
            append(row, n, layout.slot_row(slot, kv_head), kv_head, args.cache.v, args.cache.v_scales,
                   args.static_v_scale);
          }
        }
      }
    });
  });
}

}  // namespace hearth
