// Conversions to and from e4m3, and how four lanes that hold pieces of four tokens' rows get a row's piece each.
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace hearth::cuda {

// Two floats to two e4m3, saturating.
__device__ __forceinline__ uint16_t narrow_e4m3(float low, float high) {
  uint16_t out;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(out) : "f"(high), "f"(low));
  return out;
}

// Two float16 to two e4m3, saturating at kRowE4M3Max; NaN stays.
__device__ __forceinline__ uint16_t narrow_row_e4m3(uint32_t pair) {
  static_assert(kRowE4M3Max == 112);
  constexpr uint32_t kMost = 0x57005700, kLeast = 0xD700D700;
  uint16_t out;
  asm("{ .reg .b32 x; min.NaN.f16x2 x, %1, %2; max.NaN.f16x2 x, x, %3; cvt.rn.satfinite.e4m3x2.f16x2 %0, x; }"
      : "=h"(out)
      : "r"(pair), "r"(kMost), "r"(kLeast));
  return out;
}

// Four e4m3 to two pairs of float16, exactly.
__device__ __forceinline__ void widen_e4m3(uint32_t four, uint32_t& low, uint32_t& high) {
  asm("{ .reg .b16 l, h;\n"
      "mov.b32 {l, h}, %2;\n"
      "cvt.rn.f16x2.e4m3x2 %0, l;\n"
      "cvt.rn.f16x2.e4m3x2 %1, h; }"
      : "=r"(low), "=r"(high)
      : "r"(four));
}

// Each of four neighbouring lanes gives 16 bits to each of them, lane i's in bits [16 i, 16 i + 16): what it gets
// stands in the order of the lanes it is from.
__device__ __forceinline__ uint64_t trade_in_quad(uint64_t items) {
  const int lane = threadIdx.x % 4;
  uint64_t row = 0;
#pragma unroll
  for (int step = 0; step < 4; ++step) {
    const uint32_t item = static_cast<uint32_t>(items >> (16 * (lane ^ step))) & 0xFFFF;
    row |= static_cast<uint64_t>(__shfl_xor_sync(0xFFFFFFFF, item, step)) << (16 * (lane ^ step));
  }
  return row;
}

}  // namespace hearth::cuda
