// A ring of shared-memory stages between a producer and its consumers: full[i] completes when stage i is loaded,
// empty[i] when every consumer has let go of it. Both sides walk the ring with their own Stage.
#pragma once

#include <cstdint>

#include "cuda/hopper/mbarrier.cuh"

namespace hearth::hopper {

template <int kStages>
struct Ring {
  uint64_t full[kStages];
  uint64_t empty[kStages];

  // By one thread; then mbarrier_init_fence() and a CTA or cluster barrier.
  __device__ void init(uint32_t producers, uint32_t consumers) {
    for (int i = 0; i < kStages; ++i) {
      mbarrier_init(&full[i], producers);
      mbarrier_init(&empty[i], consumers);
    }
  }
};

// A position in the ring. full[index] is waited for with parity, empty[index] with parity ^ 1: the first round of a
// producer finds every stage empty.
template <int kStages>
struct Stage {
  int index = 0;
  uint32_t parity = 0;

  // A ring may use only its first `stages` stages.
  __device__ void advance(int stages = kStages) {
    if (++index == stages) {
      index = 0;
      parity ^= 1;
    }
  }
};

}  // namespace hearth::hopper
