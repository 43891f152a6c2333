// The pages of a model's KV cache on a backend.
#pragma once

#include "models/model.h"

namespace hearth {

// Bytes that one block takes over all layers, scales included.
int64_t kv_block_bytes(const KvSpec& spec);
Result<KvCache> allocate_kv_cache(Backend& backend, const KvSpec& spec, int64_t num_blocks);

}  // namespace hearth
