// Allocates K, V and, for FP8, their scales; a layer at a time.
#include "models/kv_cache.h"

namespace hearth {

int64_t kv_block_bytes(std::span<const KvSpec> layers) {
  int64_t bytes = 0;
  for (const KvSpec& spec : layers) {
    const int64_t scale_bytes = spec.dtype == DType::kE4M3 ? dtype_size(DType::kF32) : 0;
    bytes += 2 * spec.kv_heads * kBlockSize * (spec.head_dim * dtype_size(spec.dtype) + scale_bytes);
  }
  return bytes;
}

Result<KvCache> allocate_kv_cache(Backend& backend, std::span<const KvSpec> layers, int64_t num_blocks) {
  KvCache cache;
  for (const KvSpec& spec : layers) {
    const Shape pages{num_blocks, spec.kv_heads, kBlockSize, spec.head_dim},
        scales{num_blocks, spec.kv_heads, kBlockSize};
    KvCacheLayer& layer = cache.emplace_back();
    HEARTH_ASSIGN(layer.k, backend.allocate("keys", spec.dtype, pages));
    HEARTH_ASSIGN(layer.v, backend.allocate("values", spec.dtype, pages));
    if (spec.dtype != DType::kE4M3) continue;
    HEARTH_ASSIGN(layer.k_scales, backend.allocate("key scales", DType::kF32, scales));
    HEARTH_ASSIGN(layer.v_scales, backend.allocate("value scales", DType::kF32, scales));
  }
  return cache;
}

}  // namespace hearth
