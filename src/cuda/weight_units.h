// In which units grouped_gemm's e4m3 weights stand where a row of x has one scale. The tensor core then sums products
// in float16, over 1,024 of K at most, from a multiple of 512 on. Such a sum is no larger than the norm of the weights
// in it times that of 1,024 values of x, which are 112 at most (Cauchy and Schwarz). So each row of weights is divided
// by a power of two that keeps it from overflowing, and the row's scale multiplied by it. e4m3 has an exponent of its
// own: evenly spread weights then have about 0.4 for their deviation, and only those below a twentieth of it lose bits.
#pragma once

#include <cstdint>
#include <cstring>

#include "base/host_device.h"
#include "tensor/dtype.h"

namespace hearth::cuda {

constexpr int kSumLength = 1024;  // of K, in one float16 sum
constexpr int kNormLength = 512;  // whose multiples a sum may start from

// The largest sum of squares over [512 i, 512 (i + 1)) of a row, as the host works it out.
inline float norm_squared(const float* row, int64_t columns) {
  float largest = 0;
  for (int64_t begin = 0; begin < columns; begin += kNormLength) {
    float squares = 0;
    for (int64_t i = begin; i < columns && i < begin + kNormLength; ++i) squares += row[i] * row[i];
    largest = largest < squares ? squares : largest;
  }
  return largest;
}

// The unit of a row by its norm_squared(). 1 for 0 and what is not finite.
HEARTH_HOST_DEVICE inline float weight_unit(float norm_squared) {
  // What a sum may reach: of float16's 65,504 less what rounding to e4m3 can add to a norm, a sixteenth, and a little.
  constexpr float kMost = 60000, kLargest = kRowE4M3Max;
  if (!(norm_squared > 1e-30f && norm_squared < 1e30f)) return 1.0f;
  const float square = norm_squared * (kLargest * kLargest / kMost / kMost) * (kSumLength * kSumLength / kNormLength);
  // The least power of two whose square is no less than that.
  uint32_t bits;
  memcpy(&bits, &square, sizeof bits);
  const int exponent = static_cast<int>((bits + 0x7FFFFF) >> 23) - 127;  // rounded up
  const uint32_t unit = static_cast<uint32_t>(((exponent + 1) >> 1) + 127) << 23;
  float out;
  memcpy(&out, &unit, sizeof out);
  return out;
}

// One for all rows of normals of that deviation, some of which have larger norms.
inline float weight_unit_of_normals(float deviation) {
  constexpr float kChance = 1.3f;
  return weight_unit(kChance * kNormLength * deviation * deviation);
}

}  // namespace hearth::cuda
