// Warpgroup matrix products D[64, N] (+)= A[64, 32 bytes] * B[N, 32 bytes]^T: both operands K-major in 128-byte
// swizzled shared memory (or A in registers), float32 accumulators in registers. PTX ISA, wgmma.mma_async. Thread t of
// the warpgroup holds, for n8 = 0, 1, ..., d[4 n8 + {0, 1}] = D[row][8 n8 + column + {0, 1}] and d[4 n8 + {2, 3}] =
// D[row + 8][...], with row = 16 (t / 32) + t % 32 / 4 and column = 2 (t % 4).
#pragma once

#include <cstdint>

#include "cuda/hopper/mbarrier.cuh"
#include "cuda/hopper/wgmma_shapes.inc"
#include "tensor/dtype.h"

namespace hearth::hopper {

// Describes rows of 128 bytes, 8 of which make a 1,024-byte aligned swizzle atom; atoms follow each other along the
// row index. The low word moves by bytes / 16, along K (inside the 128 bytes) or to a further atom; the high word never
// changes.
__device__ __forceinline__ uint32_t wgmma_descriptor_low(uint32_t tile) { return 1u << 16 | (tile & 0x3FFFF) >> 4; }
__device__ __forceinline__ uint64_t wgmma_descriptor(uint32_t low) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62;
  constexpr uint64_t kAtomStride = uint64_t{1024 >> 4} << 32;
  return kSwizzle128 | kAtomStride | low;
}
__device__ __forceinline__ uint64_t wgmma_descriptor(const void* tile) {
  return wgmma_descriptor(wgmma_descriptor_low(shared_address(tile)));
}
// The same for rows of 64 bytes, swizzled so.
__device__ __forceinline__ uint64_t wgmma_narrow_descriptor(const void* tile) {
  return uint64_t{2} << 62 | uint64_t{512 >> 4} << 32 | wgmma_descriptor_low(shared_address(tile));
}

// For WgmmaRows: rows of 128 bytes as above, the index along them is N; the next 64 columns lie column_bytes further
// on.
__device__ __forceinline__ uint64_t wgmma_rows_descriptor(const void* tile, uint32_t column_bytes) {
  return (wgmma_descriptor(tile) & ~(uint64_t{0x3FFF} << 16)) | (static_cast<uint64_t>(column_bytes >> 4) << 16);
}

// A descriptor that the compiler knows to be the same in all lanes, so that what is added to it costs nothing; and one
// that many bytes on.
__device__ __forceinline__ uint64_t wgmma_uniform(uint64_t descriptor) {
  const uint32_t low = __shfl_sync(0xFFFFFFFFu, static_cast<uint32_t>(descriptor), 0);
  const uint32_t high = __shfl_sync(0xFFFFFFFFu, static_cast<uint32_t>(descriptor >> 32), 0);
  return static_cast<uint64_t>(high) << 32 | low;
}
__device__ __forceinline__ uint64_t wgmma_moved(uint64_t descriptor, int bytes) {
  const uint32_t low = static_cast<uint32_t>(descriptor) + static_cast<uint32_t>(bytes >> 4);
  return (descriptor & 0xFFFFFFFF00000000) | low;
}

// Before the first WGMMA after ordinary instructions touched its registers.
__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
// Keeps the compiler from moving reads of an accumulator over the wait in front of this call.
template <int kSize>
__device__ __forceinline__ void wgmma_pin(float (&d)[kSize]) {
#pragma unroll
  for (int i = 0; i < kSize; ++i) asm volatile("" : "+f"(d[i])::"memory");
}
template <int kSize>
__device__ __forceinline__ void wgmma_pin(uint32_t (&d)[kSize]) {
#pragma unroll
  for (int i = 0; i < kSize; ++i) asm volatile("" : "+r"(d[i])::"memory");
}

// Wgmma<T, N>::run(d, a, b, accumulate): a is a descriptor or four registers; accumulate = 0 overwrites d.
template <typename T, int N>
struct Wgmma;

// KIND: instruction suffix; SS, RS: the immediates that 16-bit types need for their (unused) transposition.
#define HEARTH_WGMMA_DEFINE(T, KIND, SS, RS, N, K, n0, n1, n2, n3, n4, n5)                                            \
  template <>                                                                                                         \
  struct Wgmma<T, N> {                                                                                                \
    __device__ static __forceinline__ void run(float (&d)[N / 2], uint64_t a, uint64_t b, int accumulate) {           \
      asm volatile("{ .reg .pred p; setp.ne.b32 p, " n2                                                               \
                   ", 0;\n"                                                                                           \
                   "wgmma.mma_async.sync.aligned.m64n" #N KIND " {" HEARTH_WGMMA_R##K "}, " n0 ", " n1 ", p, 1, 1" SS \
                                                                                      "; }"                           \
                   : HEARTH_WGMMA_O##K                                                                                \
                   : "l"(a), "l"(b), "r"(accumulate));                                                                \
    }                                                                                                                 \
    __device__ static __forceinline__ void run(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b,                 \
                                               int accumulate) {                                                      \
      asm volatile("{ .reg .pred p; setp.ne.b32 p, " n5                                                               \
                   ", 0;\n"                                                                                           \
                   "wgmma.mma_async.sync.aligned.m64n" #N KIND " {" HEARTH_WGMMA_R##K "}, {" n0 "," n1 "," n2 "," n3  \
                                                                                      "}, " n4 ", p, 1, 1" RS "; }"   \
                   : HEARTH_WGMMA_O##K                                                                                \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));                            \
    }                                                                                                                 \
  };
#define HEARTH_WGMMA_E4M3(...) HEARTH_WGMMA_DEFINE(E4M3, "k32.f32.e4m3.e4m3", "", "", __VA_ARGS__)
#define HEARTH_WGMMA_BF16(...) HEARTH_WGMMA_DEFINE(BF16, "k16.f32.bf16.bf16", ", 0, 0", ", 0", __VA_ARGS__)
#define HEARTH_WGMMA_F16(...) HEARTH_WGMMA_DEFINE(F16, "k16.f32.f16.f16", ", 0, 0", ", 0", __VA_ARGS__)
HEARTH_WGMMA_SHAPES(HEARTH_WGMMA_E4M3)
HEARTH_WGMMA_SHAPES(HEARTH_WGMMA_BF16)
HEARTH_WGMMA_SHAPES(HEARTH_WGMMA_F16)

// WgmmaF16<N>: the same of e4m3 with sums in float16: d[2 n8 + i] has what d[4 n8 + 2 i + {0, 1}] has above.
template <int N>
struct WgmmaF16;
#define HEARTH_WGMMA_F16_DEFINE(N, K, n0, n1, n2)                                                                  \
  template <>                                                                                                      \
  struct WgmmaF16<N> {                                                                                             \
    __device__ static __forceinline__ void run(uint32_t (&d)[N / 4], uint64_t a, uint64_t b, int accumulate) {     \
      asm volatile("{ .reg .pred p; setp.ne.b32 p, " n2                                                            \
                   ", 0;\n"                                                                                        \
                   "wgmma.mma_async.sync.aligned.m64n" #N "k32.f16.e4m3.e4m3 {" HEARTH_WGMMA_H##K "}, " n0 ", " n1 \
                                                                                                  ", p, 1, 1; }"   \
                   : HEARTH_WGMMA_Q##K                                                                             \
                   : "l"(a), "l"(b), "r"(accumulate));                                                             \
    }                                                                                                              \
  };
HEARTH_WGMMA_F16_SHAPES(HEARTH_WGMMA_F16_DEFINE)
#undef HEARTH_WGMMA_F16_DEFINE

// WgmmaRows<T, N>::run(d, a, b, accumulate): the same with A in registers and B stored as [K][N] (16-bit types only): b
// describes K rows of 64 columns in 128 bytes, further columns a stride away (wgmma_rows_descriptor).
template <typename T, int N>
struct WgmmaRows;
#define HEARTH_WGMMA_ROWS(T, KIND, N, K, n0, n1, n2, n3, n4, n5)                                                     \
  template <>                                                                                                        \
  struct WgmmaRows<T, N> {                                                                                           \
    __device__ static __forceinline__ void run(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b,                \
                                               int accumulate) {                                                     \
      asm volatile("{ .reg .pred p; setp.ne.b32 p, " n5                                                              \
                   ", 0;\n"                                                                                          \
                   "wgmma.mma_async.sync.aligned.m64n" #N KIND " {" HEARTH_WGMMA_R##K "}, {" n0 "," n1 "," n2 "," n3 \
                                                                                      "}, " n4 ", p, 1, 1, 1; }"     \
                   : HEARTH_WGMMA_O##K                                                                               \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));                           \
    }                                                                                                                \
  };
#define HEARTH_WGMMA_ROWS_BF16(...) HEARTH_WGMMA_ROWS(BF16, "k16.f32.bf16.bf16", __VA_ARGS__)
#define HEARTH_WGMMA_ROWS_F16(...) HEARTH_WGMMA_ROWS(F16, "k16.f32.f16.f16", __VA_ARGS__)
HEARTH_WGMMA_SHAPES(HEARTH_WGMMA_ROWS_BF16)
HEARTH_WGMMA_SHAPES(HEARTH_WGMMA_ROWS_F16)
#undef HEARTH_WGMMA_ROWS_BF16
#undef HEARTH_WGMMA_ROWS_F16
#undef HEARTH_WGMMA_E4M3
#undef HEARTH_WGMMA_BF16
#undef HEARTH_WGMMA_F16

}  // namespace hearth::hopper
