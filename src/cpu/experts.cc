// experts: each expert's MLP over the rows routed to it.
#include <cstring>

#include "cpu/products.h"
#include "cpu/quantize.h"

namespace hearth {
namespace {

PanelMatrix all_experts(const Tensor& data, const Tensor& scales, int64_t panels) {
  PanelMatrix out{data.data, data.dtype, data.dim(2), panels};
  if (scales) out.scales = scales.as<float>(), out.scale_rows = scales.dim(1);
  return out;
}

std::vector<RowGroup> groups_of(const PanelMatrix& all, const Tensor& bias, const Routing& routing) {
  std::vector<RowGroup> groups;
  const Tensor starts = routing.of_here(routing.starts), ends = routing.of_here(routing.ends);
  for (int64_t e = 0; e < starts.dim(0); ++e) {
    const int64_t begin = starts.as<int32_t>()[e], end = ends.as<int32_t>()[e];
    if (begin < end) groups.push_back({expert_matrix(all, e), begin, end, bias ? bias.rows(e, 1) : Tensor{}});
  }
  return groups;
}

// Copies (or quantizes) every token's row to the rows of its experts that are here.
template <typename Act>
void gather(const ExpertsArgs& args, const Activation& gathered, int64_t token, float* row) {
  const int64_t hidden = args.x.dim(1), top_k = args.routing->rows.dim(1);
  simd::convert(args.x.as<Act>() + token * hidden, row, hidden);
  for (int64_t k = 0; k < top_k; ++k) {
    if (!args.routing->is_here(args.routing->experts.as<int32_t>()[token * top_k + k])) continue;
    store_activation(row, hidden, gathered, args.routing->rows.as<int32_t>()[token * top_k + k]);
  }
}

}  // namespace

void CpuOps::experts(const ExpertsArgs& args) {
  const ExpertWeights& w = *args.weights;
  const int64_t intermediate = w.down.dim(2), hidden = w.down.dim(1);
  const Activation gathered = reserved_.get(kExpertInput, w.input, hidden);
  const Scratch::Product between = reserved_.product(kExpertProduct, w.down_input, intermediate);
  visit_act(args.x.dtype, [&]<typename Act>(Act) {
    pool_.run(args.x.dim(0), [&](int64_t begin, int64_t end, int thread) {
      float* row = scratch_[thread].rows.reserve(args.x.dim(1));
      for (int64_t token = begin; token < end; ++token) gather<Act>(args, gathered, token, row);
    });
  });
  const PanelMatrix gate_up = all_experts(w.gate_up, w.gate_up_scales, 2 * ceil_div(intermediate, kPanelRows));
  const PanelMatrix down = all_experts(w.down, w.down_scales, ceil_div(hidden, kPanelRows));
  multiply_gate_up(*this, gathered, groups_of(gate_up, w.gate_up_bias, *args.routing), args.swiglu, between);
  multiply_down(*this, between.out, groups_of(down, w.down_bias, *args.routing), args.out);
}

}  // namespace hearth
