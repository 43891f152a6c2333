// Stores into the shared memory of a CTA of the cluster that a barrier there waits for. PTX ISA, st.async.
#pragma once

#include "cuda/hopper/mbarrier.cuh"

namespace hearth::hopper {

// To an address there (mbarrier_in_cluster), aligned to what is stored; counts the bytes on a barrier of the same CTA:
// who waits for it sees them.
__device__ __forceinline__ void store_async(uint32_t to, const uint2& v, uint32_t barrier) {
  asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.b32 [%0], {%1, %2}, [%3];" ::"r"(to),
               "r"(v.x), "r"(v.y), "r"(barrier)
               : "memory");
}
__device__ __forceinline__ void store_async(uint32_t to, const uint4& v, uint32_t barrier) {
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(to),
      "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w), "r"(barrier)
      : "memory");
}

}  // namespace hearth::hopper
