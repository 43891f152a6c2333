// Each type's block to float32. K-quants are super-blocks of 256: a float16 scale (and minimum) for all, small integer
// scales (and minimums) for each 16 or 32.
#include "weights/ggml_quant.h"

#include <cmath>
#include <cstring>

#include "base/cat.h"
#include "base/check.h"
#include "tensor/dtype.h"

namespace hearth {
namespace {

float half_at(const uint8_t* p) {
  F16 h;
  std::memcpy(&h.bits, p, 2);
  return to_float(h);
}

template <typename T>
void convert(const char* in, int64_t elements, float* out) {
  for (int64_t i = 0; i < elements; ++i) {
    T value;
    std::memcpy(&value, in + i * sizeof(T), sizeof(T));
    if constexpr (std::is_same_v<T, float>) {
      out[i] = value;
    } else {
      out[i] = to_float(value);
    }
  }
}

// 4-bit blocks of 32: byte i holds elements i (low half) and i + 16 (high half).
void q4_0(const uint8_t* b, float* out) {
  const float d = half_at(b);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>((b[2 + i] & 15) - 8);
    out[i + 16] = d * static_cast<float>((b[2 + i] >> 4) - 8);
  }
}

void q4_1(const uint8_t* b, float* out) {
  const float d = half_at(b), m = half_at(b + 2);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(b[4 + i] & 15) + m;
    out[i + 16] = d * static_cast<float>(b[4 + i] >> 4) + m;
  }
}

// As the 4-bit ones, the fifth bits of all elements in four bytes before the nibbles.
int fifth_bit(const uint8_t* high, int element) { return (high[element / 8] >> (element % 8) & 1) << 4; }

void q5_0(const uint8_t* b, float* out) {
  const float d = half_at(b);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(((b[6 + i] & 15) | fifth_bit(b + 2, i)) - 16);
    out[i + 16] = d * static_cast<float>(((b[6 + i] >> 4) | fifth_bit(b + 2, i + 16)) - 16);
  }
}

void q5_1(const uint8_t* b, float* out) {
  const float d = half_at(b), m = half_at(b + 2);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>((b[8 + i] & 15) | fifth_bit(b + 4, i)) + m;
    out[i + 16] = d * static_cast<float>((b[8 + i] >> 4) | fifth_bit(b + 4, i + 16)) + m;
  }
}

// 4 bits choose one of 16 values.
constexpr int8_t kUnevenSteps[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
constexpr int8_t kE2M1Doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

void chosen(const int8_t (&values)[16], float scale, const uint8_t* nibbles, float* out) {
  for (int i = 0; i < 16; ++i) {
    out[i] = scale * static_cast<float>(values[nibbles[i] & 15]);
    out[i + 16] = scale * static_cast<float>(values[nibbles[i] >> 4]);
  }
}

void iq4_nl(const uint8_t* b, float* out) { chosen(kUnevenSteps, half_at(b), b + 2, out); }

// d, then the top two bits of eight 6-bit scales, then their low four, then nibbles.
void iq4_xs(const uint8_t* b, float* out) {
  const float d = half_at(b);
  const int high = b[2] | b[3] << 8;
  for (int j = 0; j < 8; ++j) {
    const int scale = (b[4 + j / 2] >> (4 * (j % 2)) & 15) | (high >> (2 * j) & 3) << 4;
    chosen(kUnevenSteps, d * static_cast<float>(scale - 32), b + 8 + 16 * j, out + 32 * j);
  }
}

// An exponent of two, halved since the values are doubled.
void mxfp4(const uint8_t* b, float* out) { chosen(kE2M1Doubled, std::ldexp(1.0f, b[0] - 128), b + 1, out); }

void q8_0(const uint8_t* b, float* out) {
  const float d = half_at(b);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(static_cast<int8_t>(b[2 + i]));
}

// Eight 6-bit scales and eight 6-bit minimums in 12 bytes: the first four of each whole in bytes 0-3 and 4-7, of the
// others 4 bits in bytes 8-11 and the top 2 in the top bits of bytes 0-7.
struct KScale {
  float scale, minimum;
};
KScale k_scale(const uint8_t* packed, int j) {
  if (j < 4) return {static_cast<float>(packed[j] & 63), static_cast<float>(packed[j + 4] & 63)};
  return {static_cast<float>((packed[j + 4] & 15) | ((packed[j - 4] >> 6) << 4)),
          static_cast<float>((packed[j + 4] >> 4) | ((packed[j] >> 6) << 4))};
}

// 16 bytes, a scale and a minimum of 4 bits each for 16 elements; 64 bytes of bit pairs; d, dmin. Pairs lie as q6_k's
// upper ones do.
void q2_k(const uint8_t* b, float* out) {
  const float d = half_at(b + 80), dmin = half_at(b + 82);
  for (int i = 0; i < 256; ++i) {
    const uint8_t scale = b[i / 16];
    const int q = b[16 + i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
    out[i] = d * static_cast<float>(scale & 15) * static_cast<float>(q) - dmin * static_cast<float>(scale >> 4);
  }
}

// 32 bytes whose bit j is the third bit of group j of 32 (clear: less 4), 64 bytes of pairs, sixteen 6-bit scales in 12
// bytes (low halves of 0-7 and 8-15 share bytes 0-7, top pairs of 0-3, 4-7, 8-11, 12-15 share bytes 8-11), d.
void q3_k(const uint8_t* b, float* out) {
  const float d = half_at(b + 108);
  const uint8_t *third = b, *pairs = b + 32, *scales = b + 96;
  for (int i = 0; i < 256; ++i) {
    const int s = i / 16, low = s < 8 ? scales[s] & 15 : scales[s - 8] >> 4, top = scales[8 + s % 4] >> (s / 4 * 2) & 3;
    const int q = pairs[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
    const int third_bit = third[i % 32] >> (i / 32) & 1;
    out[i] = d * static_cast<float>((low | top << 4) - 32) * static_cast<float>(q - (third_bit ? 0 : 4));
  }
}

// d, dmin, 12 bytes of scales, then (5 bit only: 32 bytes whose bit j is the fifth bit of group j) nibbles: each 32
// bytes hold group 2i in their low and group 2i + 1 in their high halves.
template <bool kFiveBits>
void q45_k(const uint8_t* b, float* out) {
  const float d = half_at(b), dmin = half_at(b + 2);
  const uint8_t* high = b + 16;
  const uint8_t* nibbles = b + (kFiveBits ? 48 : 16);
  for (int j = 0; j < 8; ++j) {
    const KScale s = k_scale(b + 4, j);
    const float scale = d * s.scale, minimum = dmin * s.minimum;
    for (int i = 0; i < 32; ++i) {
      const uint8_t byte = nibbles[j / 2 * 32 + i];
      int q = j % 2 ? byte >> 4 : byte & 15;
      if constexpr (kFiveBits) q |= ((high[i] >> j) & 1) << 4;
      out[j * 32 + i] = scale * static_cast<float>(q) - minimum;
    }
  }
}

// 128 bytes of low nibbles, 64 of upper bit pairs, 16 signed scales, d. Per half of 128 elements: group g of 32 has its
// nibble in byte (g % 2) * 32 + i, low half for g < 2, and its upper bits at 2g of byte i.
void q6_k(const uint8_t* b, float* out) {
  const float d = half_at(b + 208);
  for (int half = 0; half < 2; ++half) {
    const uint8_t* low = b + half * 64;
    const uint8_t* upper = b + 128 + half * 32;
    for (int g = 0; g < 4; ++g) {
      for (int i = 0; i < 32; ++i) {
        const uint8_t byte = low[g % 2 * 32 + i];
        const int q = (g < 2 ? byte & 15 : byte >> 4) | (((upper[i] >> (2 * g)) & 3) << 4);
        const int8_t scale = static_cast<int8_t>(b[192 + half * 8 + g * 2 + i / 16]);
        out[half * 128 + g * 32 + i] = d * static_cast<float>(scale) * static_cast<float>(q - 32);
      }
    }
  }
}

template <void (*kBlock)(const uint8_t*, float*)>
void blocks(const char* in, int64_t elements, const GgmlTypeInfo& info, float* out) {
  for (int64_t i = 0; i < elements / info.block_elements; ++i) {
    kBlock(reinterpret_cast<const uint8_t*>(in) + i * info.block_bytes, out + i * info.block_elements);
  }
}

}  // namespace

const GgmlTypeInfo* ggml_type_info(uint32_t type) {
  static constexpr GgmlTypeInfo kF32{"F32", 1, 4}, kF16{"F16", 1, 2}, kBF16{"BF16", 1, 2}, kQ4_0{"Q4_0", 32, 18},
      kQ4_1{"Q4_1", 32, 20}, kQ8_0{"Q8_0", 32, 34}, kQ4_K{"Q4_K", 256, 144}, kQ5_K{"Q5_K", 256, 176},
      kQ6_K{"Q6_K", 256, 210}, kQ5_0{"Q5_0", 32, 22}, kQ5_1{"Q5_1", 32, 24}, kQ2_K{"Q2_K", 256, 84},
      kQ3_K{"Q3_K", 256, 110}, kIQ4_NL{"IQ4_NL", 32, 18}, kIQ4_XS{"IQ4_XS", 256, 136}, kMXFP4{"MXFP4", 32, 17};
  switch (static_cast<GgmlType>(type)) {
    case GgmlType::kF32: return &kF32;
    case GgmlType::kF16: return &kF16;
    case GgmlType::kBF16: return &kBF16;
    case GgmlType::kQ4_0: return &kQ4_0;
    case GgmlType::kQ4_1: return &kQ4_1;
    case GgmlType::kQ5_0: return &kQ5_0;
    case GgmlType::kQ5_1: return &kQ5_1;
    case GgmlType::kQ8_0: return &kQ8_0;
    case GgmlType::kQ2_K: return &kQ2_K;
    case GgmlType::kQ3_K: return &kQ3_K;
    case GgmlType::kIQ4_NL: return &kIQ4_NL;
    case GgmlType::kIQ4_XS: return &kIQ4_XS;
    case GgmlType::kMXFP4: return &kMXFP4;
    case GgmlType::kQ4_K: return &kQ4_K;
    case GgmlType::kQ5_K: return &kQ5_K;
    case GgmlType::kQ6_K: return &kQ6_K;
  }
  return nullptr;
}

std::string_view ggml_type_name(uint32_t type) {
  constexpr std::pair<uint32_t, std::string_view> kOthers[] = {
      {9, "Q8_1"},   {15, "Q8_K"},  {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {18, "IQ3_XXS"}, {19, "IQ1_S"},
      {21, "IQ3_S"}, {22, "IQ2_S"}, {24, "I8"},      {25, "I16"},    {26, "I32"},     {27, "I64"},
      {28, "F64"},   {29, "IQ1_M"}, {34, "TQ1_0"},   {35, "TQ2_0"}};
  for (const auto& [number, name] : kOthers) {
    if (number == type) return name;
  }
  return {};
}

std::string ggml_type_names() {
  std::string out;
  for (uint32_t type = 0; type < 64; ++type) {
    if (const GgmlTypeInfo* info = ggml_type_info(type)) out += cat(out.empty() ? "" : ", ", info->name);
  }
  return out;
}

void dequantize_ggml(GgmlType type, const char* in, int64_t elements, float* out) {
  const GgmlTypeInfo& info = *ggml_type_info(static_cast<uint32_t>(type));
  HEARTH_CHECK(elements % info.block_elements == 0);
  switch (type) {
    case GgmlType::kF32: return convert<float>(in, elements, out);
    case GgmlType::kF16: return convert<F16>(in, elements, out);
    case GgmlType::kBF16: return convert<BF16>(in, elements, out);
    case GgmlType::kQ4_0: return blocks<q4_0>(in, elements, info, out);
    case GgmlType::kQ4_1: return blocks<q4_1>(in, elements, info, out);
    case GgmlType::kQ5_0: return blocks<q5_0>(in, elements, info, out);
    case GgmlType::kQ5_1: return blocks<q5_1>(in, elements, info, out);
    case GgmlType::kQ8_0: return blocks<q8_0>(in, elements, info, out);
    case GgmlType::kQ2_K: return blocks<q2_k>(in, elements, info, out);
    case GgmlType::kQ3_K: return blocks<q3_k>(in, elements, info, out);
    case GgmlType::kIQ4_NL: return blocks<iq4_nl>(in, elements, info, out);
    case GgmlType::kIQ4_XS: return blocks<iq4_xs>(in, elements, info, out);
    case GgmlType::kMXFP4: return blocks<mxfp4>(in, elements, info, out);
    case GgmlType::kQ4_K: return blocks<q45_k<false>>(in, elements, info, out);
    case GgmlType::kQ5_K: return blocks<q45_k<true>>(in, elements, info, out);
    case GgmlType::kQ6_K: return blocks<q6_k>(in, elements, info, out);
  }
}

}  // namespace hearth
