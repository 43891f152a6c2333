// The panel product on AVX2: tiles of 6 tokens by 16 weight rows, or a whole panel for a single token.
#include "cpu/panels_kernel.h"
#include "cpu/simd.h"

namespace hearth {
namespace {

struct Avx2 {
  using Vec = __m256;
  static constexpr int kWidth = 8;
  static constexpr int kTileVectors = 2;
  static Vec splat(float x) { return _mm256_set1_ps(x); }
  template <typename T>
  static Vec load(const T* p) {
    return simd::load8(p);
  }
  static void store(float* p, Vec v) { _mm256_storeu_ps(p, v); }
  static Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
  static Vec mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
  static Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
};

}  // namespace

void multiply_panel_avx2(const PanelProduct& product) { multiply_panel_on<Avx2>(product); }

}  // namespace hearth
