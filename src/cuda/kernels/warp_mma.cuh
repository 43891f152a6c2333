// Matrix products of one warp: D[16, 8] += A[16, 16] * B[16, 8] in 16 bit with float32 sums, and the shared-memory
// loads that feed them. Lane l holds rows l/4 (and +8) of A and D and column l/4 of B; PTX ISA, mma.m16n8k16.
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace hearth::cuda {

template <typename T>
struct WarpMma;
#define HEARTH_WARP_MMA(T, SUFFIX)                                                                                     \
  template <>                                                                                                          \
  struct WarpMma<T> {                                                                                                  \
    __device__ static __forceinline__ void run(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,      \
                                               uint32_t b0, uint32_t b1) {                                             \
      asm("mma.sync.aligned.m16n8k16.row.col.f32." SUFFIX ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" \
          : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                             \
          : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));                                                     \
    }                                                                                                                  \
  };
HEARTH_WARP_MMA(BF16, "bf16.bf16")
HEARTH_WARP_MMA(F16, "f16.f16")
#undef HEARTH_WARP_MMA

// Four 8x8 matrices of 16-bit units, transposed on the way: lanes 8i .. 8i+7 give the rows of matrix i.
__device__ __forceinline__ void load_transposed(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

// The same, as they are.
__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

}  // namespace hearth::cuda
