// linear and mlp: products with panel matrices and what happens to their results.
#include "cpu/products.h"
#include "cpu/quantize.h"

namespace hearth {
namespace {

// What gate and up make, of 64 columns.
void apply(const Swiglu& swiglu, const float* gate, const float* up, float* out) {
  using simd::splat;
  for (int64_t i = 0; i < kPanelRows; i += simd::kLanes) {
    simd::Lanes g = simd::load(gate + i), u = simd::load(up + i);
    simd::Lanes exponent = splat(0) - g;
    if (swiglu.clamped) {
      g = simd::min(splat(swiglu.limit), g);
      u = simd::max(splat(-swiglu.limit), simd::min(splat(swiglu.limit), u)) + splat(1);
      exponent = splat(-swiglu.alpha) * g;
    }
    simd::store(out + i, g / (splat(1) + simd::exp(exponent)) * u);
  }
}

// Adds elements [first, first + n) of `bias`, which may be empty.
void add_bias(const Tensor& bias, int64_t first, int64_t n, float* row) {
  if (!bias) return;
  visit_act(bias.dtype, [&]<typename T>(T) {
    for (int64_t i = 0; i < n; i += simd::kLanes) {
      simd::store_some(row + i, n - i,
                       simd::load_some(row + i, n - i) + simd::load_some(bias.as<T>() + first + i, n - i));
    }
  });
}

// What a product runs on is the weight's choice; the other kind would run too, and mean something else.
void check_input(const Activation& in, const InputType& wanted) {
  HEARTH_CHECK((in.data.dtype == DType::kE4M3) == (wanted.dtype == DType::kE4M3));
  HEARTH_CHECK((in.scales ? in.scales.dim(0) : 0) == wanted.scale_groups(in.data.dim(1)));
}

}  // namespace

void multiply_gate_up(CpuOps& ops, const Activation& in, std::span<const RowGroup> groups, const Swiglu& swiglu,
                      const Scratch::Product& product) {
  const Activation& out = product.out;
  if (product.act) {
    multiply_gate_up(ops, in, groups, swiglu, {{product.act, {}}, {}});
    for (const RowGroup& group : groups) Products::quantize(ops, product.act, group.begin, group.end, out);
    return;
  }
  const int64_t intermediate = out.data.dim(1);
  Products::run(ops, in, groups, 2, [&](const ProductTile& tile, int) {
    const int64_t column = tile.panel / 2 * kPanelRows;
    const int64_t columns = std::min(tile.panels / 2 * kPanelRows, intermediate - column);
    for (int64_t r = 0; r < tile.rows; ++r) {
      float row[kScaleGroup], pair[2 * kPanelRows];
      for (int64_t p = 0; p < tile.panels; p += 2) {
        const float *gate = tile.at(p, r), *up = tile.at(p + 1, r);
        if (*tile.bias) {
          std::copy_n(gate, kPanelRows, pair);
          std::copy_n(up, kPanelRows, pair + kPanelRows);
          add_bias(*tile.bias, (tile.panel + p) * kPanelRows, 2 * kPanelRows, pair);
          gate = pair, up = pair + kPanelRows;
        }
        apply(swiglu, gate, up, row + p / 2 * kPanelRows);
      }
      store_activation(row, columns, out, tile.row + r, column);
    }
  });
}

void multiply_down(CpuOps& ops, const Activation& in, std::span<const RowGroup> groups, Tensor out) {
  const int64_t out_dim = out.dim(1);
  Products::run(ops, in, groups, 1, [&](const ProductTile& tile, int) {
    const int64_t column = tile.panel * kPanelRows, columns = std::min(kPanelRows, out_dim - column);
    for (int64_t r = 0; r < tile.rows; ++r) {
      float row[kPanelRows];
      std::copy_n(tile.at(0, r), kPanelRows, row);
      add_bias(*tile.bias, column, columns, row);
      store_activation(row, columns, {out, {}}, tile.row + r, column);
    }
  });
}

void CpuOps::linear(const LinearArgs& args) {
  HEARTH_CHECK(args.in.data.dim(1) == args.weight->in() && args.out.dim(1) == args.weight->out());
  check_input(args.in, args.weight->input);
  const RowGroup all{panel_matrix(*args.weight), 0, args.out.dim(0), args.weight->bias};
  multiply_down(*this, args.in, {&all, 1}, args.out);
}

void CpuOps::mlp(const MlpArgs& args) {
  const int64_t tokens = args.out.dim(0);
  const LinearWeight &gate_up = args.weights->gate_up, &down = args.weights->down;
  HEARTH_CHECK(args.in.data.dim(1) == gate_up.in() && args.out.dim(1) == down.out());
  check_input(args.in, gate_up.input);
  const Scratch::Product between = reserved_.product(kMlpProduct, down.input, down.in()).rows(tokens);
  const RowGroup first{gate_up_matrix(gate_up), 0, tokens}, second{panel_matrix(down), 0, tokens, down.bias};
  multiply_gate_up(*this, args.in, {&first, 1}, {}, between);
  multiply_down(*this, between.out, {&second, 1}, args.out);
}

}  // namespace hearth
