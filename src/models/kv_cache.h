// The pages of a model's KV cache on a backend.
#pragma once

#include <span>

#include "models/model.h"

namespace hearth {

// Bytes that one block takes over all layers, scales included.
int64_t kv_block_bytes(std::span<const KvSpec> layers);
Result<KvCache> allocate_kv_cache(Backend& backend, std::span<const KvSpec> layers, int64_t num_blocks);

}  // namespace hearth
