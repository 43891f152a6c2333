// The random number behind a draw: a pure function of (seed, position, token id), so that a sample never depends on the
// batch. Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"); host and device run the
// same code.
#pragma once

#include <cstdint>

#include "base/host_device.h"

namespace hearth {

// 32 random bits for counter (position, token) under key `seed`.
HEARTH_HOST_DEVICE inline uint32_t philox_bits(uint64_t seed, uint32_t position, uint32_t token) {
  uint32_t x0 = token, x1 = position, x2 = 0, x3 = 0;
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = 0xD2511F53ull * x0;
    const uint64_t p1 = 0xCD9E8D57ull * x2;
    const uint32_t y0 = static_cast<uint32_t>(p1 >> 32) ^ x1 ^ k0;
    const uint32_t y2 = static_cast<uint32_t>(p0 >> 32) ^ x3 ^ k1;
    x1 = static_cast<uint32_t>(p1);
    x3 = static_cast<uint32_t>(p0);
    x0 = y0;
    x2 = y2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return x0;
}

// Uniform in (0, 1), never its ends. Gumbel noise is -log(-log(u)).
HEARTH_HOST_DEVICE inline float philox_uniform(uint64_t seed, uint32_t position, uint32_t token) {
  return (static_cast<float>(philox_bits(seed, position, token) >> 9) + 0.5f) * (1.0f / 8388608.0f);
}

}  // namespace hearth
