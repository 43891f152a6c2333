// Codes and exponents to e4m3 and bfloat16, a block at a time.
#include "weights/mxfp4.h"

#include <immintrin.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/checked.h"

namespace hearth {
namespace {

constexpr float kValues[16] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};
constexpr int kBias = 127;  // of a block's exponent
constexpr int kNoNumber = 255;
constexpr int kLeastShift = -13;   // of a block in e4m3, where nothing of it is left
constexpr int kMostShift = 9;      // 0.5 * 2^9 is the largest power of two in e4m3
constexpr int kLeastScale = -126;  // exponent of a row's scale: a normal float

// By a value's number, its sign left out: what it may be shifted up by, and down, in e4m3.
constexpr int kUp[8] = {kMostShift, 9, 8, 8, 7, 7, 6, 6};
constexpr int kDown[8] = {kLeastShift, -8, -9, -8, -10, -9, -11, -10};

// e4m3 of all codes, for each shift.
struct ShiftedCodes {
  alignas(16) uint8_t of[kMostShift - kLeastShift + 1][16];
  constexpr ShiftedCodes() : of{} {
    for (int shift = kLeastShift; shift <= kMostShift; ++shift) {
      float power = 1;
      for (int i = 0; i < shift; ++i) power *= 2;
      for (int i = 0; i > shift; --i) power /= 2;
      for (int code = 0; code < 16; ++code) of[shift - kLeastShift][code] = to_e4m3(kValues[code] * power).bits;
    }
  }
};
constexpr ShiftedCodes kShifted;

// A block's codes, a byte each, in order.
struct Codes {
  __m128i first, second;
};
Codes codes_of(const Mxfp4Row& row, int64_t block) {
  const __m128i packed = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row.codes + block * row.codes_stride));
  const __m128i four = _mm_set1_epi8(15);
  const __m128i low = _mm_and_si128(packed, four), high = _mm_and_si128(_mm_srli_epi16(packed, 4), four);
  if (row.halves) return {low, high};
  return {_mm_unpacklo_epi8(low, high), _mm_unpackhi_epi8(low, high)};
}

__m128i look_up(const uint8_t* table, __m128i codes) {
  return _mm_shuffle_epi8(_mm_load_si128(reinterpret_cast<const __m128i*>(table)), codes);
}

// Which values but 0 a block has: bit i for number i.
unsigned values_in(const Codes& codes) {
  alignas(16) static constexpr uint8_t kBits[16] = {0, 2, 4, 8, 16, 32, 64, 128, 0, 2, 4, 8, 16, 32, 64, 128};
  __m128i bits = _mm_or_si128(look_up(kBits, codes.first), look_up(kBits, codes.second));
  bits = _mm_or_si128(bits, _mm_srli_si128(bits, 8));
  uint64_t word = static_cast<uint64_t>(_mm_cvtsi128_si64(bits));
  word |= word >> 32, word |= word >> 16, word |= word >> 8;
  return static_cast<unsigned>(word & 0xFF);
}

// By which values a block has: the least of `of` among them.
std::array<int8_t, 256> least_of(const int (&of)[8], bool most) {
  std::array<int8_t, 256> out{};
  for (unsigned set = 0; set < 256; ++set) {
    int best = most ? kLeastShift : kMostShift;
    for (int i = 1; i < 8; ++i) {
      if (set >> i & 1) best = most ? std::max(best, of[i]) : std::min(best, of[i]);
    }
    out[set] = static_cast<int8_t>(best);
  }
  return out;
}

struct RowScale {
  int exponent = kLeastScale;
  bool any = false, exact = true;
};

// The least scale at which no value is too large. `sets`: room for a byte a block.
RowScale scale_of(const Mxfp4Row& row, const Range& blocks, std::vector<uint8_t>& sets) {
  static const std::array<int8_t, 256> up = least_of(kUp, false), down = least_of(kDown, true);
  RowScale out;
  sets.resize(static_cast<size_t>(blocks.size()));
  for (int64_t b = blocks.begin; b < blocks.end; ++b) {
    const unsigned set = values_in(codes_of(row, b));
    sets[static_cast<size_t>(b - blocks.begin)] = static_cast<uint8_t>(set);
    if (set == 0) continue;
    out.any = true;
    out.exponent = std::max(out.exponent, row.exponents[b * row.exponents_stride] - kBias - up[set]);
  }
  for (int64_t b = blocks.begin; b < blocks.end; ++b) {
    const unsigned set = sets[static_cast<size_t>(b - blocks.begin)];
    if (set != 0) out.exact &= row.exponents[b * row.exponents_stride] - kBias - out.exponent >= down[set];
  }
  return out;
}

Range blocks_of(const Range& columns) { return {columns.begin / kMxfp4Block, ceil_div(columns.end, kMxfp4Block)}; }

// Calls put(block, column, first, count): elements [first, first + count) of a block become column `column` and on.
template <typename Put>
void for_blocks(const Range& columns, Put&& put) {
  const Range blocks = blocks_of(columns);
  for (int64_t b = blocks.begin; b < blocks.end; ++b) {
    const int64_t begin = std::max(columns.begin, b * kMxfp4Block), end = std::min(columns.end, (b + 1) * kMxfp4Block);
    put(b, begin - columns.begin, begin - b * kMxfp4Block, end - begin);
  }
}

// Blocks whose values are numbers within float32, and so within bfloat16.
Status check_exponents(const Mxfp4Row& row, const Range& columns, int64_t index, const std::string& source) {
  const Range blocks = blocks_of(columns);
  for (int64_t b = blocks.begin; b < blocks.end; ++b) {
    const int exponent = row.exponents[b * row.exponents_stride];
    if (exponent >= kNoNumber - 2) {  // 6 * 2^126 is no float32
      return invalid(source, ": expected exponents below ", kNoNumber - 2, ", found ", exponent, " in row ", index);
    }
  }
  return {};
}

}  // namespace

Result<ScaledRows> mxfp4_to_e4m3(int64_t rows, const Range& columns, const std::string& source,
                                 const std::function<Mxfp4Row(int64_t)>& row_at) {
  const auto data = std::make_shared_for_overwrite<E4M3[]>(static_cast<size_t>(rows * columns.size()));
  const auto scales = std::make_shared_for_overwrite<float[]>(static_cast<size_t>(rows));
  ScaledRows out{{{data.get(), DType::kE4M3, {rows, columns.size()}}, data},
                 {{scales.get(), DType::kF32, {rows}}, scales}};
  std::vector<uint8_t> sets;
  for (int64_t r = 0; r < rows; ++r) {
    const Mxfp4Row row = row_at(r);
    HEARTH_TRY(check_exponents(row, columns, r, source));
    const RowScale scale = scale_of(row, blocks_of(columns), sets);
    out.rounded += !scale.exact;
    scales[r] = scale.any ? std::ldexp(1.0f, scale.exponent) : 1.0f;
    for_blocks(columns, [&](int64_t block, int64_t column, int64_t first, int64_t count) {
      const int shift = row.exponents[block * row.exponents_stride] - kBias - scale.exponent;
      const uint8_t* table = kShifted.of[std::clamp(shift, kLeastShift, kMostShift) - kLeastShift];
      const Codes codes = codes_of(row, block);
      alignas(16) uint8_t values[kMxfp4Block];
      _mm_store_si128(reinterpret_cast<__m128i*>(values), look_up(table, codes.first));
      _mm_store_si128(reinterpret_cast<__m128i*>(values + 16), look_up(table, codes.second));
      std::memcpy(data.get() + r * columns.size() + column, values + first, static_cast<size_t>(count));
    });
  }
  return out;
}

Result<HostTensor> mxfp4_to_bf16(int64_t rows, const Range& columns, const std::string& source,
                                 const std::function<Mxfp4Row(int64_t)>& row_at) {
  const auto data = std::make_shared_for_overwrite<BF16[]>(static_cast<size_t>(rows * columns.size()));
  for (int64_t r = 0; r < rows; ++r) {
    const Mxfp4Row row = row_at(r);
    HEARTH_TRY(check_exponents(row, columns, r, source));
    for_blocks(columns, [&](int64_t block, int64_t column, int64_t first, int64_t count) {
      const int exponent = row.exponents[block * row.exponents_stride] - kBias;
      alignas(16) uint8_t codes[kMxfp4Block];
      const Codes found = codes_of(row, block);
      _mm_store_si128(reinterpret_cast<__m128i*>(codes), found.first);
      _mm_store_si128(reinterpret_cast<__m128i*>(codes + 16), found.second);
      for (int64_t i = 0; i < count; ++i) {
        data[r * columns.size() + column + i] = to_bf16(std::ldexp(kValues[codes[first + i]], exponent));
      }
    });
  }
  return HostTensor{{data.get(), DType::kBF16, {rows, columns.size()}}, data};
}

}  // namespace hearth
