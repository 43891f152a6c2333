// Sixteen float lanes on AVX2, loads and stores of every float type, exp, and reductions in one fixed order.
// Elementwise functions give a lane the same bits wherever it stands; a partial vector is filled up with zeros.
#pragma once

#include <immintrin.h>

#include <cmath>
#include <cstring>

#include "tensor/dtype.h"

namespace hearth::simd {

#define HEARTH_INLINE inline __attribute__((always_inline))

HEARTH_INLINE __m256 load8(const float* p) { return _mm256_loadu_ps(p); }
HEARTH_INLINE __m256 load8(const F16* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
HEARTH_INLINE __m256 load8(const BF16* p) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
// By way of f16: its exponent bias is 8 larger, so the same bits are worth 2^-8 of the value, subnormals included. The
// shift leaves a second copy of the sign, to be cleared.
HEARTH_INLINE __m256 load8(const E4M3* p) {
  const __m128i codes = _mm_cvtepi8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  const __m128i half = _mm_and_si128(_mm_slli_epi16(codes, 7), _mm_set1_epi16(static_cast<int16_t>(0xBFFF)));
  const __m128i nan = _mm_cmpeq_epi16(_mm_slli_epi16(codes, 9), _mm_set1_epi16(static_cast<int16_t>(0xFE00)));
  return _mm256_mul_ps(_mm256_cvtph_ps(_mm_or_si128(half, nan)), _mm256_set1_ps(256.0f));
}

HEARTH_INLINE void store8(float* p, __m256 v) { _mm256_storeu_ps(p, v); }
HEARTH_INLINE void store8(F16* p, __m256 v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
HEARTH_INLINE void store8(BF16* p, __m256 v) {
  const __m256i bits = _mm256_castps_si256(v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256 nan = _mm256_cmp_ps(v, v, _CMP_UNORD_Q);
  const __m256i chosen = _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(nan));
  const __m256i high = _mm256_srli_epi32(chosen, 16);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1)));
}
// The arithmetic of to_e4m3, eight at a time.
HEARTH_INLINE void store8(E4M3* p, __m256 v) {
  const __m256i bits = _mm256_castps_si256(v);
  const __m256i magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(0x7FFFFFFF));
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(magnitude, 20), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(magnitude, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFFF)));
  const __m256i normal = _mm256_srli_epi32(_mm256_sub_epi32(rounded, _mm256_set1_epi32(0x3C000000)), 20);
  const __m256 shifted = _mm256_add_ps(_mm256_castsi256_ps(magnitude), _mm256_set1_ps(16384.0f));
  const __m256i subnormal = _mm256_sub_epi32(_mm256_castps_si256(shifted), _mm256_set1_epi32(0x46800000));
  __m256i code = _mm256_blendv_epi8(normal, subnormal, _mm256_cmpgt_epi32(_mm256_set1_epi32(0x3C800000), magnitude));
  const __m256i saturates = _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(0x43DFFFFF));
  code = _mm256_blendv_epi8(code, _mm256_set1_epi32(0x7E), saturates);
  const __m256i nan = _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(0x7F800000));
  code = _mm256_blendv_epi8(code, _mm256_set1_epi32(0x7F), nan);
  code = _mm256_or_si256(code, _mm256_and_si256(_mm256_srli_epi32(bits, 24), _mm256_set1_epi32(0x80)));
  const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(code), _mm256_extracti128_si256(code, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
}

constexpr int kLanes = 16;

struct Lanes {
  __m256 lo, hi;
};

HEARTH_INLINE Lanes splat(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
HEARTH_INLINE Lanes operator+(Lanes a, Lanes b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
HEARTH_INLINE Lanes operator-(Lanes a, Lanes b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
HEARTH_INLINE Lanes operator*(Lanes a, Lanes b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
HEARTH_INLINE Lanes operator/(Lanes a, Lanes b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
HEARTH_INLINE Lanes fma(Lanes a, Lanes b, Lanes c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
// Where `a` is NaN the result is `b`.
HEARTH_INLINE Lanes min(Lanes a, Lanes b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
HEARTH_INLINE Lanes max(Lanes a, Lanes b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
HEARTH_INLINE Lanes abs(Lanes a) {
  const __m256 mask = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF));
  return {_mm256_and_ps(a.lo, mask), _mm256_and_ps(a.hi, mask)};
}

template <typename T>
HEARTH_INLINE Lanes load(const T* p) {
  return {load8(p), load8(p + 8)};
}
template <typename T>
HEARTH_INLINE void store(T* p, Lanes v) {
  store8(p, v.lo);
  store8(p + 8, v.hi);
}
template <typename T>
inline Lanes load_some(const T* p, int64_t n) {
  if (n >= kLanes) return load(p);
  T full[kLanes] = {};
  std::memcpy(full, p, static_cast<size_t>(n) * sizeof(T));
  return load(full);
}
template <typename T>
inline void store_some(T* p, int64_t n, Lanes v) {
  if (n >= kLanes) return store(p, v);
  T full[kLanes];
  store(full, v);
  std::memcpy(p, full, static_cast<size_t>(n) * sizeof(T));
}

// Lanes i and i + 8, then i and i + 4, i and i + 2, i and i + 1.
HEARTH_INLINE float reduce_add(Lanes v) {
  const __m256 eight = _mm256_add_ps(v.lo, v.hi);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
HEARTH_INLINE float reduce_max(Lanes v) {
  const __m256 eight = _mm256_max_ps(v.lo, v.hi);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

// e^x to 1.5 ulp: x = n ln 2 + r, a polynomial in r (its Taylor series), then the exponent. Overflows to infinity and
// underflows to 0 as the exact function does; NaN stays NaN.
HEARTH_INLINE __m256 exp8(__m256 x) {
  x = _mm256_min_ps(_mm256_set1_ps(89.0f), _mm256_max_ps(_mm256_set1_ps(-104.5f), x));
  const __m256 n =
      _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fmadd_ps(n, _mm256_set1_ps(-0.693145752f), x);
  r = _mm256_fmadd_ps(n, _mm256_set1_ps(-1.42860677e-6f), r);
  __m256 y = _mm256_set1_ps(1.0f / 5040);
  for (const float c : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) {
    y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(c));
  }
  // 2^n in two factors: n reaches beyond what one exponent holds at both ends.
  const __m256i whole = _mm256_cvtps_epi32(n);
  const __m256i half = _mm256_srai_epi32(whole, 1);
  const auto power = [](__m256i e) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(e, _mm256_set1_epi32(127)), 23));
  };
  return _mm256_mul_ps(_mm256_mul_ps(y, power(half)), power(_mm256_sub_epi32(whole, half)));
}
HEARTH_INLINE Lanes exp(Lanes x) { return {exp8(x.lo), exp8(x.hi)}; }
// The same bits as a lane of the vector form.
inline float exp(float x) { return _mm256_cvtss_f32(exp8(_mm256_set1_ps(x))); }

// Element i is added to lane i % 16, lanes by reduce_add.
template <typename A, typename B>
inline float dot(const A* a, const B* b, int64_t n) {
  Lanes sum = splat(0);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) sum = fma(load(a + i), load(b + i), sum);
  if (i < n) sum = fma(load_some(a + i, n - i), load_some(b + i, n - i), sum);
  return reduce_add(sum);
}

// NaN elements do not count.
inline float max_abs(const float* x, int64_t n) {
  Lanes largest = splat(0);
  for (int64_t i = 0; i < n; i += kLanes) largest = max(abs(load_some(x + i, n - i)), largest);
  return reduce_max(largest);
}

template <typename From, typename To>
inline void convert(const From* in, To* out, int64_t n) {
  if constexpr (std::is_same_v<From, To>) {
    std::memcpy(out, in, static_cast<size_t>(n) * sizeof(To));
  } else {
    for (int64_t i = 0; i < n; i += kLanes) store_some(out + i, n - i, load_some(in + i, n - i));
  }
}

}  // namespace hearth::simd
