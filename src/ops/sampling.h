// The random number behind a draw: a pure function of (seed, position, token id), so that a sample never depends on the
// batch. Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"); host and device run the
// same code.
#pragma once

#include <cstdint>

#include "base/host_device.h"

namespace hearth {

struct PhiloxWords {
  uint32_t word[4];
};

// 128 random bits for counter (count, position) under key `seed`.
HEARTH_HOST_DEVICE inline PhiloxWords philox(uint64_t seed, uint32_t position, uint32_t count) {
  uint32_t x0 = count, x1 = position, x2 = 0, x3 = 0;
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
  return {{x0, x1, x2, x3}};
}

// Uniform in (0, 1), never its ends. Gumbel noise is -log(-log(u)).
HEARTH_HOST_DEVICE inline float uniform_of_bits(uint32_t bits) {
  return (static_cast<float>(bits >> 9) + 0.5f) * (1.0f / 8388608.0f);
}

// A token's number: four neighbouring tokens share the words of one counter.
HEARTH_HOST_DEVICE inline float philox_uniform(uint64_t seed, uint32_t position, uint32_t token) {
  const PhiloxWords w = philox(seed, position, token / 4);
  const uint32_t low = token % 2 ? w.word[1] : w.word[0], high = token % 2 ? w.word[3] : w.word[2];
  return uniform_of_bits(token % 4 < 2 ? low : high);
}

}  // namespace hearth
