// Weights that a small kernel asks into the L2 cache for the product behind it, for while it runs memory is idle.
#pragma once

#include <cstdint>

namespace hearth::cuda {

// `count` pieces of `bytes`, a multiple of 16, each `stride` bytes after the one before. No kernel writes them.
struct L2Prefetch {
  const char* from = nullptr;
  uint32_t bytes = 0;
  int32_t count = 0;
  int64_t stride = 0;
};

}  // namespace hearth::cuda
