// The matrix product every linear layer is made of, and the layout it wants: panels of 64 weight rows, [in][64] each,
// so that a token's value meets 64 weights side by side and weights stream in order.
//
// An output element is the f32 sum, in order of K, of partial sums of 128 of K (the last may be short); a partial sum
// is a chain of fused multiply-adds in order of K from 0. FP8: the total is fma(partial, activation scale * weight
// scale, total). So its bits depend on neither the instruction set nor on what is computed beside it.
#pragma once

#include <cstdint>

#include "tensor/host_matrix.h"

namespace hearth {

constexpr int64_t kPanelRows = 64;

// A product of one panel with some tokens.
struct PanelProduct {
  const void* weights;  // [in, 64]
  DType dtype;
  int64_t in;
  const float* weight_scales;  // e4m3: [64], the same every 128 of K, or one such row each with a stride; else null
  int64_t weight_scale_stride;
  const float* x;  // [tokens, in]
  int64_t tokens;
  const float* x_scales;  // [ceil(in / 128), tokens] with a stride where x was e4m3; else null
  int64_t x_scale_stride;
  float* out;      // [tokens, 64]
  float* widened;  // scratch [128, 64], 64-byte aligned
};

// Runs on the widest instructions this machine has.
void multiply_panel(const PanelProduct& product);

// For the test that they agree; AVX-512 may be missing.
void multiply_panel_avx2(const PanelProduct& product);
void multiply_panel_avx512(const PanelProduct& product);
bool has_avx512();

// Bytes of a panel.
inline int64_t panel_bytes(DType dtype, int64_t in) { return kPanelRows * in * dtype_size(dtype); }

// A panel of the given rows, [in] each; a null row becomes zeros.
void pack_panel(const void* const (&rows)[kPanelRows], DType dtype, int64_t in, void* panel);

}  // namespace hearth
