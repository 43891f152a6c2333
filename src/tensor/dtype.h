// Element types, and exact scalar conversions between float32 and the 16- and 8-bit float formats.
#pragma once

#include <bit>
#include <cstdint>
#include <string_view>

namespace hearth {

enum class DType : uint8_t { kF32, kF16, kBF16, kE4M3, kI8, kU8, kI32, kI64 };

constexpr int64_t dtype_size(DType t) {
  switch (t) {
    case DType::kF32:
    case DType::kI32: return 4;
    case DType::kF16:
    case DType::kBF16: return 2;
    case DType::kI64: return 8;
    case DType::kE4M3:
    case DType::kI8:
    case DType::kU8: return 1;
  }
  return 0;
}

constexpr std::string_view dtype_name(DType t) {
  switch (t) {
    case DType::kF32: return "float32";
    case DType::kF16: return "float16";
    case DType::kBF16: return "bfloat16";
    case DType::kE4M3: return "float8_e4m3";
    case DType::kI8: return "int8";
    case DType::kU8: return "uint8";
    case DType::kI32: return "int32";
    case DType::kI64: return "int64";
  }
  return "?";
}

// Storage types: the bits, no arithmetic.
struct F16 {
  uint16_t bits;
};
struct BF16 {
  uint16_t bits;
};
// OCP FP8 E4M3: no infinities, NaN is 0x7F or 0xFF, largest finite 448.
struct E4M3 {
  uint8_t bits;
};

constexpr float kE4M3Max = 448.0f;
constexpr float kRowE4M3Max = 112.0f;  // of an activation with a scale a token or none, see ops/ops.h

constexpr float to_float(BF16 v) { return std::bit_cast<float>(static_cast<uint32_t>(v.bits) << 16); }

constexpr float to_float(F16 v) {
  const uint32_t sign = static_cast<uint32_t>(v.bits & 0x8000u) << 16;
  const uint32_t exponent = (v.bits >> 10) & 0x1Fu;
  const uint32_t mantissa = v.bits & 0x3FFu;
  if (exponent == 0x1F) return std::bit_cast<float>(sign | 0x7F800000u | (mantissa << 13));
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

constexpr float to_float(E4M3 v) {
  const uint32_t exponent = (v.bits >> 3) & 0xFu;
  const uint32_t mantissa = v.bits & 7u;
  float magnitude;
  if (exponent == 0xF && mantissa == 7) {
    magnitude = std::bit_cast<float>(0x7FC00000u);
  } else if (exponent == 0) {
    magnitude = static_cast<float>(mantissa) * 0x1p-9f;
  } else {
    magnitude = std::bit_cast<float>(((exponent + 120) << 23) | (mantissa << 20));
  }
  return (v.bits & 0x80u) ? -magnitude : magnitude;
}

// All three round to nearest even. F16 overflows to infinity, BF16 likewise; NaN stays NaN.
constexpr BF16 to_bf16(float f) {
  const uint32_t bits = std::bit_cast<uint32_t>(f);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return {static_cast<uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16)};
}

constexpr F16 to_f16(float f) {
  const uint32_t bits = std::bit_cast<uint32_t>(f);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return {static_cast<uint16_t>(sign | 0x7E00u)};
  if (magnitude >= 0x477FF000u) return {static_cast<uint16_t>(sign | 0x7C00u)};  // 65520 and up
  if (magnitude < 0x38800000u) {  // below the smallest normal: adding 0.5 rounds to a multiple of 2^-24
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return {static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3F000000u))};
  }
  const uint32_t rounded = magnitude + 0xFFFu + ((magnitude >> 13) & 1u);
  return {static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13))};
}

// Saturates to +-448 as the GPU's cvt.rn.satfinite does; NaN stays NaN.
constexpr E4M3 to_e4m3(float f) {
  const uint32_t bits = std::bit_cast<uint32_t>(f);
  const uint8_t sign = static_cast<uint8_t>((bits >> 24) & 0x80u);
  const uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return {static_cast<uint8_t>(sign | 0x7Fu)};
  if (magnitude >= 0x43E00000u) return {static_cast<uint8_t>(sign | 0x7Eu)};  // 448 and up
  if (magnitude < 0x3C800000u) {  // below 2^-6: adding 2^14 rounds to a multiple of 2^-9
    const float shifted = std::bit_cast<float>(magnitude) + 16384.0f;
    return {static_cast<uint8_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x46800000u))};
  }
  const uint32_t rounded = magnitude + 0x7FFFFu + ((magnitude >> 20) & 1u);
  return {static_cast<uint8_t>(sign | ((rounded - 0x3C000000u) >> 20))};
}

}  // namespace hearth
