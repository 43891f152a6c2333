// The panel product, once for every instruction set: `Isa` gives vectors of kWidth floats. Instantiated with a type of
// an anonymous namespace only, so that code for a newer machine never stands in for that of an older one.
#pragma once

#include "cpu/panels.h"

namespace hearth {

// out[m][n] += the partial sum over `count` of K for Tokens rows of x and Vectors vectors of weight rows.
template <typename Isa, int Tokens, int Vectors, typename T>
static inline __attribute__((always_inline)) void multiply_tile(const float* x, int64_t x_stride, const T* w,
                                                                int64_t count, const float* x_scales,
                                                                const float* w_scales, float* out) {
  using Vec = typename Isa::Vec;
  Vec sum[Tokens][Vectors];
#pragma GCC unroll 8
  for (int m = 0; m < Tokens; ++m) {
#pragma GCC unroll 8
    for (int n = 0; n < Vectors; ++n) sum[m][n] = Isa::splat(0);
  }
  for (int64_t k = 0; k < count; ++k) {
    Vec weights[Vectors];
#pragma GCC unroll 8
    for (int n = 0; n < Vectors; ++n) weights[n] = Isa::load(w + k * kPanelRows + n * Isa::kWidth);
#pragma GCC unroll 8
    for (int m = 0; m < Tokens; ++m) {
      const Vec value = Isa::splat(x[m * x_stride + k]);
#pragma GCC unroll 8
      for (int n = 0; n < Vectors; ++n) sum[m][n] = Isa::fma(value, weights[n], sum[m][n]);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < Tokens; ++m) {
#pragma GCC unroll 8
    for (int n = 0; n < Vectors; ++n) {
      float* total = out + m * kPanelRows + n * Isa::kWidth;
      if (w_scales != nullptr) {
        const Vec scale = Isa::mul(Isa::splat(x_scales ? x_scales[m] : 1.0f), Isa::load(w_scales + n * Isa::kWidth));
        Isa::store(total, Isa::fma(sum[m][n], scale, Isa::load(total)));
      } else {
        Isa::store(total, Isa::add(Isa::load(total), sum[m][n]));
      }
    }
  }
}

template <typename Isa, int Tokens, typename T>
static inline __attribute__((always_inline)) void multiply_rows(const float* x, int64_t x_stride, const T* w,
                                                                int64_t count, const float* x_scales,
                                                                const float* w_scales, float* out) {
  constexpr int kVectors = Tokens == 1 ? kPanelRows / Isa::kWidth : Isa::kTileVectors;
  constexpr int kColumns = kVectors * Isa::kWidth;
  for (int64_t n = 0; n < kPanelRows; n += kColumns) {
    multiply_tile<Isa, Tokens, kVectors>(x, x_stride, w + n, count, x_scales, w_scales ? w_scales + n : nullptr,
                                         out + n);
  }
}

constexpr int64_t kTileTokens = 6;

template <typename Isa, typename T>
static void multiply_block(const float* x, int64_t x_stride, const T* w, int64_t count, int64_t tokens,
                           const float* x_scales, const float* w_scales, float* out) {
  while (tokens > 0) {
    const int64_t m = tokens < kTileTokens ? tokens : kTileTokens;
    switch (m) {
      case 1: multiply_rows<Isa, 1>(x, x_stride, w, count, x_scales, w_scales, out); break;
      case 2: multiply_rows<Isa, 2>(x, x_stride, w, count, x_scales, w_scales, out); break;
      case 3: multiply_rows<Isa, 3>(x, x_stride, w, count, x_scales, w_scales, out); break;
      case 4: multiply_rows<Isa, 4>(x, x_stride, w, count, x_scales, w_scales, out); break;
      case 5: multiply_rows<Isa, 5>(x, x_stride, w, count, x_scales, w_scales, out); break;
      default: multiply_rows<Isa, 6>(x, x_stride, w, count, x_scales, w_scales, out); break;
    }
    x += m * x_stride;
    if (x_scales) x_scales += m;
    out += m * kPanelRows;
    tokens -= m;
  }
}

template <typename Isa, typename T>
static void multiply_panel_typed(const PanelProduct& p) {
  for (int64_t i = 0; i < p.tokens * kPanelRows; i += Isa::kWidth) Isa::store(p.out + i, Isa::splat(0));
  const T* w = static_cast<const T*>(p.weights);
  for (int64_t k = 0; k < p.in; k += kScaleGroup, w += kScaleGroup * kPanelRows) {
    const int64_t count = p.in - k < kScaleGroup ? p.in - k : kScaleGroup;
    const int64_t group = k / kScaleGroup;
    const float* x_scales = p.x_scales ? p.x_scales + group * p.x_scale_stride : nullptr;
    const float* w_scales = p.weight_scales ? p.weight_scales + group * p.weight_scale_stride : nullptr;
    if (sizeof(T) == sizeof(float) || p.tokens <= kTileTokens) {
      multiply_block<Isa>(p.x + k, p.in, w, count, p.tokens, x_scales, w_scales, p.out);
    } else {  // widened once for all tokens
      for (int64_t i = 0; i < count * kPanelRows; i += Isa::kWidth) Isa::store(p.widened + i, Isa::load(w + i));
      multiply_block<Isa>(p.x + k, p.in, static_cast<const float*>(p.widened), count, p.tokens, x_scales, w_scales,
                          p.out);
    }
  }
}

template <typename Isa>
static void multiply_panel_on(const PanelProduct& p) {
  switch (p.dtype) {
    case DType::kF32: return multiply_panel_typed<Isa, float>(p);
    case DType::kF16: return multiply_panel_typed<Isa, F16>(p);
    case DType::kBF16: return multiply_panel_typed<Isa, BF16>(p);
    default: return multiply_panel_typed<Isa, E4M3>(p);
  }
}

}  // namespace hearth
