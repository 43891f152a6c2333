// Products of activations with panel matrices, shared by linear, mlp and experts: rows are widened to f32, panels are
// dealt to the threads, and what is done with a tile of results is the caller's.
#pragma once

#include <algorithm>
#include <span>

#include "cpu/cpu_ops.h"
#include "cpu/float_types.h"
#include "cpu/panels.h"
#include "cpu/quantize.h"
#include "cpu/simd.h"

namespace hearth {

// A weight matrix in panels, its scales as [1 or ceil(in / 128), panels * 64].
struct PanelMatrix {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t in = 0;
  int64_t panels = 0;
  const float* scales = nullptr;
  int64_t scale_rows = 0;

  const char* panel(int64_t i) const { return static_cast<const char*>(data) + i * panel_bytes(dtype, in); }
};

inline PanelMatrix panel_matrix(const LinearWeight& w) {
  PanelMatrix out{w.data.data, w.data.dtype, w.in(), ceil_div(w.out(), kPanelRows)};
  if (w.scales) out.scales = w.scales.as<float>(), out.scale_rows = w.scales.dim(0);
  return out;
}
// Gate and up: panels alternate, 64 columns of gate and the same of up.
inline PanelMatrix gate_up_matrix(const LinearWeight& w) {
  PanelMatrix out = panel_matrix(w);
  out.panels = 2 * ceil_div(w.out() / 2, kPanelRows);
  return out;
}
inline PanelMatrix expert_matrix(const PanelMatrix& all, int64_t expert) {
  PanelMatrix out = all;
  out.data = out.panel(expert * all.panels);
  if (out.scales) out.scales += expert * all.scale_rows * all.panels * kPanelRows;
  return out;
}

// Rows [begin, end) of an activation that meet one matrix.
struct RowGroup {
  PanelMatrix weights;
  int64_t begin = 0, end = 0;
  Tensor bias = {};  // act, an element for each row of the panels, or empty
};

// Some panels' products with some rows: [panels][rows][64].
struct ProductTile {
  int64_t panel, panels;
  int64_t row, rows;
  const float* data;
  const Tensor* bias;  // the group's
  const float* at(int64_t p, int64_t r) const { return data + (p * rows + r) * kPanelRows; }
};

class Products {
 public:
  static constexpr int64_t kRows = 96;  // widened at a time: with a panel they stay in a core's L2

  // Groups have matrices of one shape. Calls store(tile, thread) for every tile of `panels_together` panels.
  template <typename Store>
  static void run(CpuOps& ops, const Activation& in, std::span<const RowGroup> groups, int64_t panels_together,
                  Store&& store) {
    if (groups.empty()) return;
    const int64_t panels = groups[0].weights.panels, items = ceil_div(panels, panels_together);
    ops.pool_.run(items * static_cast<int64_t>(groups.size()), [&](int64_t begin, int64_t end, int thread) {
      while (begin < end) {
        const RowGroup& group = groups[static_cast<size_t>(begin / items)];
        const int64_t first = begin % items, last = std::min(items, first + end - begin);
        begin += last - first;
        for (int64_t row = group.begin; row < group.end; row += kRows) {
          const int64_t rows = std::min(kRows, group.end - row);
          const float* x = widen(ops, in, row, rows, thread);
          for (int64_t item = first; item < last; ++item) {
            const int64_t panel = item * panels_together;
            store(multiply(ops, in, group, x, panel, std::min(panels_together, panels - panel), row, rows, thread),
                  thread);
          }
        }
      }
    });
  }

  // Rows [begin, end).
  static void quantize(CpuOps& ops, const Tensor& in, int64_t begin, int64_t end, const Activation& out) {
    const int64_t dim = in.dim(1);
    ops.pool_.run(end - begin, [&](int64_t first, int64_t last, int thread) {
      for (int64_t row = begin + first; row < begin + last; ++row)
        store_activation(widen(ops, {in, {}}, row, 1, thread), dim, out, row);
    });
  }

 private:
  static const float* widen(CpuOps& ops, const Activation& in, int64_t row, int64_t rows, int thread) {
    const int64_t dim = in.data.dim(1);
    if (in.data.dtype == DType::kF32) return in.data.as<float>() + row * dim;
    float* x = ops.scratch_[thread].rows.reserve(rows * dim);
    visit_float(in.data.dtype, [&]<typename T>(T) { simd::convert(in.data.as<T>() + row * dim, x, rows * dim); });
    return x;
  }

  static ProductTile multiply(CpuOps& ops, const Activation& in, const RowGroup& group, const float* x, int64_t panel,
                              int64_t panels, int64_t row, int64_t rows, int thread) {
    const PanelMatrix& w = group.weights;
    float* out = ops.scratch_[thread].products.reserve(panels * rows * kPanelRows);
    const ProductTile tile{panel, panels, row, rows, out, &group.bias};
    PanelProduct product{};
    product.dtype = w.dtype;
    product.in = w.in;
    product.weight_scale_stride = w.scale_rows > 1 ? w.panels * kPanelRows : 0;
    product.x = x;
    product.tokens = rows;
    if (in.scales) {
      product.x_scales = in.scales.as<float>() + row;
      product.x_scale_stride = in.scales.dim(0) == 1 ? 0 : in.scales.dim(1);
    }
    product.widened = ops.scratch_[thread].widened.reserve(kScaleGroup * kPanelRows);
    for (int64_t p = 0; p < panels; ++p, out += rows * kPanelRows) {
      product.weights = w.panel(panel + p);
      if (w.scales) product.weight_scales = w.scales + (panel + p) * kPanelRows;
      product.out = out;
      multiply_panel(product);
    }
    return tile;
  }
};

// The two halves of an MLP, dense or of experts: what gate and up make, and a product stored as it is.
void multiply_gate_up(CpuOps& ops, const Activation& in, std::span<const RowGroup> groups, const Swiglu& swiglu,
                      const Scratch::Product& product);
void multiply_down(CpuOps& ops, const Activation& in, std::span<const RowGroup> groups, Tensor out);

}  // namespace hearth
