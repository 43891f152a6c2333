// The panel product on AVX-512: tiles of 6 tokens by a whole panel. This file alone is compiled for x86-64-v4 (its name
// says so to CMake) and includes nothing with code that an older machine could be handed.
#include <immintrin.h>

#include "cpu/panels_kernel.h"

namespace hearth {
namespace {

struct Avx512 {
  using Vec = __m512;
  static constexpr int kWidth = 16;
  static constexpr int kTileVectors = 4;
  static Vec splat(float x) { return _mm512_set1_ps(x); }
  static Vec load(const float* p) { return _mm512_loadu_ps(p); }
  static Vec load(const F16* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
  static Vec load(const BF16* p) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  // As simd::load8.
  static Vec load(const E4M3* p) {
    const __m256i codes = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    const __m256i half = _mm256_and_si256(_mm256_slli_epi16(codes, 7), _mm256_set1_epi16(static_cast<int16_t>(0xBFFF)));
    const __m256i nan =
        _mm256_cmpeq_epi16(_mm256_slli_epi16(codes, 9), _mm256_set1_epi16(static_cast<int16_t>(0xFE00)));
    return _mm512_mul_ps(_mm512_cvtph_ps(_mm256_or_si256(half, nan)), _mm512_set1_ps(256.0f));
  }
  static void store(float* p, Vec v) { _mm512_storeu_ps(p, v); }
  static Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
  static Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
  static Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
};

}  // namespace

void multiply_panel_avx512(const PanelProduct& product) { multiply_panel_on<Avx512>(product); }

}  // namespace hearth
