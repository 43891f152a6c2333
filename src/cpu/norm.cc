// norm: residual add and RMSNorm, stored as its readers want it.
#include <cmath>

#include "cpu/cpu_ops.h"
#include "cpu/float_types.h"
#include "cpu/quantize.h"
#include "cpu/simd.h"

namespace hearth {
namespace {

using simd::kLanes;
using simd::load_some;

template <typename Act>
void norm_token(const NormArgs& args, int64_t token, float* row) {
  const int64_t hidden = args.residual.dim(1);
  Act* residual = args.residual.as<Act>() + token * hidden;
  if (args.delta) {
    const Act* delta = args.delta.as<Act>() + token * hidden;
    for (int64_t i = 0; i < hidden; i += kLanes) {
      store_some(residual + i, hidden - i, load_some(residual + i, hidden - i) + load_some(delta + i, hidden - i));
    }
  }
  const float mean_square = simd::dot(residual, residual, hidden) / static_cast<float>(hidden);
  const simd::Lanes inverse = simd::splat(1.0f / std::sqrt(mean_square + args.epsilon));
  const float* weight = args.weight.as<float>();
  for (int64_t i = 0; i < hidden; i += kLanes) {
    store_some(row + i, hidden - i, load_some(residual + i, hidden - i) * inverse * load_some(weight + i, hidden - i));
  }
  if (args.out.data) store_activation(row, hidden, args.out, token);
  if (args.out_act) store_activation(row, hidden, {args.out_act, {}}, token);
}

}  // namespace

void CpuOps::norm(const NormArgs& args) {
  visit_act(args.residual.dtype, [&]<typename Act>(Act) {
    pool_.run(args.residual.dim(0), [&](int64_t begin, int64_t end, int thread) {
      float* row = scratch_[thread].rows.reserve(args.residual.dim(1));
      for (int64_t token = begin; token < end; ++token) norm_token<Act>(args, token, row);
    });
  });
}

}  // namespace hearth
