// route: the router's product, softmax, choice of experts, and the place of every (token, expert) pair.
#include <algorithm>
#include <cmath>

#include "cpu/cpu_ops.h"
#include "cpu/float_types.h"
#include "cpu/simd.h"
#include "ops/router_spans.h"

namespace hearth {
namespace {

// The expert with the largest logit not chosen yet; NaN never wins, but the answer is an expert even so.
int32_t next_expert(const float* logits, int64_t num_experts, const int32_t* chosen, int64_t count) {
  int32_t best = -1;
  for (int32_t e = 0; e < num_experts; ++e) {
    if (std::find(chosen, chosen + count, e) != chosen + count) continue;
    if (best < 0 || logits[e] > logits[best] || (std::isnan(logits[best]) && !std::isnan(logits[e]))) best = e;
  }
  return best;
}

// Rows of an expert stand in order of the tokens, without padding.
void place_rows(const Routing& r, int64_t tokens, int64_t top_k, int64_t num_experts) {
  int32_t* starts = r.starts.as<int32_t>();
  int32_t* ends = r.ends.as<int32_t>();
  const int32_t* experts = r.experts.as<int32_t>();
  std::fill_n(ends, num_experts, 0);
  for (int64_t i = 0; i < tokens * top_k; ++i) ++ends[experts[i]];
  int32_t row = 0;
  for (int64_t e = 0; e < num_experts; ++e) {
    starts[e] = row;
    row += ends[e];
    ends[e] = starts[e];
  }
  for (int64_t i = 0; i < tokens * top_k; ++i) r.rows.as<int32_t>()[i] = ends[experts[i]]++;
}

}  // namespace

void CpuOps::route(const RouteArgs& args) {
  const int64_t tokens = args.x.dim(0), hidden = args.x.dim(1), num_experts = args.gate.dim(0);
  const int64_t top_k = args.out.experts.dim(1);
  const RouterSpans spans = router_spans(hidden, num_experts);
  HEARTH_CHECK(top_k >= 1 && top_k <= num_experts && args.gate.dim(1) == hidden);
  pool_.run(tokens, [&](int64_t begin, int64_t end, int thread) {
    float* p = scratch_[thread].products.reserve(num_experts);
    for (int64_t token = begin; token < end; ++token) {
      visit_act(args.x.dtype, [&]<typename Act>(Act) {
        visit_act(args.gate.dtype, [&]<typename Gate>(Gate) {
          for (int64_t e = 0; e < num_experts; ++e) {
            const Act* x = args.x.as<Act>() + token * hidden;
            const Gate* gate = args.gate.as<Gate>() + e * hidden;
            p[e] = 0;
            for (int64_t k = 0; k < hidden; k += spans.length) {
              p[e] += simd::dot(x + k, gate + k, std::min(spans.length, hidden - k));
            }
            if (args.bias) p[e] += args.bias.as<float>()[e];
          }
        });
      });
      int32_t* experts = args.out.experts.as<int32_t>() + token * top_k;
      float* weights = args.out.weights.as<float>() + token * top_k;
      for (int64_t k = 0; k < top_k; ++k) experts[k] = next_expert(p, num_experts, experts, k);
      const float largest = p[experts[0]];
      float sum = 0;
      for (int64_t k = 0; k < top_k; ++k) sum += weights[k] = simd::exp(p[experts[k]] - largest);
      if (!args.scoring.renormalize) {
        sum = 0;
        for (int64_t e = 0; e < num_experts; ++e) sum += simd::exp(p[e] - largest);
      }
      for (int64_t k = 0; k < top_k; ++k) weights[k] /= sum;
    }
  });
  place_rows(args.out, tokens, top_k, num_experts);
}

}  // namespace hearth
