// Allocates K, V and, for FP8, their scales; a layer at a time.
#include "models/kv_cache.h"

namespace hearth {

int64_t kv_block_bytes(const KvSpec& spec) {
  const int64_t rows = 2 * spec.num_layers * spec.kv_heads * kBlockSize;
  const int64_t scale_bytes = spec.dtype == DType::kE4M3 ? dtype_size(DType::kF32) : 0;
  return rows * (spec.head_dim * dtype_size(spec.dtype) + scale_bytes);
}

Result<KvCache> allocate_kv_cache(Backend& backend, const KvSpec& spec, int64_t num_blocks) {
  KvCache cache(static_cast<size_t>(spec.num_layers));
  const Shape pages{num_blocks, spec.kv_heads, kBlockSize, spec.head_dim},
      scales{num_blocks, spec.kv_heads, kBlockSize};
  for (KvCacheLayer& layer : cache) {
    HEARTH_ASSIGN(layer.k, backend.allocate("keys", spec.dtype, pages));
    HEARTH_ASSIGN(layer.v, backend.allocate("values", spec.dtype, pages));
    if (spec.dtype != DType::kE4M3) continue;
    HEARTH_ASSIGN(layer.k_scales, backend.allocate("key scales", DType::kF32, scales));
    HEARTH_ASSIGN(layer.v_scales, backend.allocate("value scales", DType::kF32, scales));
  }
  return cache;
}

}  // namespace hearth
