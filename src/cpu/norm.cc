// norm: residual add (a row, or the weighted sum of the experts' rows) and RMSNorm, stored as its readers want it.
#include <cmath>

#include "cpu/combine.h"
#include "cpu/cpu_ops.h"
#include "cpu/float_types.h"
#include "cpu/quantize.h"
#include "cpu/simd.h"

namespace hearth {
namespace {

using simd::kLanes;
using simd::load_some;

// What is added to channels [i, i + kLanes) of a token.
template <typename Act>
simd::Lanes delta_of(const NormArgs& args, int64_t token, int64_t i) {
  const int64_t hidden = args.residual.dim(1);
  const Act* delta = args.delta.as<Act>();
  if (args.routing) return combined(delta, *args.routing, token, hidden, i);
  return load_some(delta + token * hidden + i, hidden - i);
}

// Row `at` of the output. `row` and `summed` have room for one.
template <typename Act>
void norm_row(const NormArgs& args, int64_t at, float* row, Act* summed) {
  const int64_t hidden = args.residual.dim(1), token = args.tokens ? args.tokens.as<int32_t>()[at] : at;
  HEARTH_CHECK(token >= 0 && token < args.residual.dim(0));
  Act* residual = args.residual.as<Act>() + token * hidden;
  const Tensor sums = args.sums();
  if (sums) summed = sums.as<Act>() + at * hidden;
  if (args.delta || sums) {
    for (int64_t i = 0; i < hidden; i += kLanes) {
      simd::Lanes sum = load_some(residual + i, hidden - i);
      if (args.delta) sum = sum + delta_of<Act>(args, token, i);
      store_some(summed + i, hidden - i, sum);
    }
    residual = summed;
  }
  const float mean_square = simd::dot(residual, residual, hidden) / static_cast<float>(hidden);
  const simd::Lanes inverse = simd::splat(1.0f / std::sqrt(mean_square + args.epsilon));
  const float* weight = args.weight.as<float>();
  for (int64_t i = 0; i < hidden; i += kLanes) {
    store_some(row + i, hidden - i, load_some(residual + i, hidden - i) * inverse * load_some(weight + i, hidden - i));
  }
  if (args.out.data) store_activation(row, hidden, args.out, at);
  if (args.out_act) store_activation(row, hidden, {args.out_act, {}}, at);
}

}  // namespace

void CpuOps::norm(const NormArgs& args) {
  visit_act(args.residual.dtype, [&]<typename Act>(Act) {
    const int64_t rows = args.tokens ? args.tokens.dim(0) : args.residual.dim(0), hidden = args.residual.dim(1);
    pool_.run(rows, [&](int64_t begin, int64_t end, int thread) {
      float* row = scratch_[thread].rows.reserve(hidden);
      Act* summed = reinterpret_cast<Act*>(scratch_[thread].products.reserve(hidden));
      for (int64_t at = begin; at < end; ++at) norm_row<Act>(args, at, row, summed);
    });
  });
}

}  // namespace hearth
