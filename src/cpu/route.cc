// route: the router's product, scores, choice of experts, and the place of every (token, expert) pair.
#include <algorithm>
#include <cmath>

#include "cpu/cpu_ops.h"
#include "cpu/float_types.h"
#include "cpu/simd.h"
#include "ops/router_spans.h"

namespace hearth {
namespace {

// The expert with the largest score not chosen yet; NaN never wins, but the answer is an expert even so.
int32_t next_expert(const float* scores, int64_t num_experts, const int32_t* chosen, int64_t count) {
  int32_t best = -1;
  for (int32_t e = 0; e < num_experts; ++e) {
    if (std::find(chosen, chosen + count, e) != chosen + count) continue;
    if (best < 0 || scores[e] > scores[best] || (std::isnan(scores[best]) && !std::isnan(scores[e]))) best = e;
  }
  return best;
}

float sigmoid(float x) { return 1.0f / (1.0f + simd::exp(-x)); }

void choose(const float* scores, int64_t num_experts, int64_t top_k, int32_t* experts) {
  for (int64_t k = 0; k < top_k; ++k) experts[k] = next_expert(scores, num_experts, experts, k);
}

void softmax_weights(const Scoring& scoring, const float* logits, int64_t num_experts, int64_t top_k, int32_t* experts,
                     float* weights) {
  choose(logits, num_experts, top_k, experts);
  const float largest = logits[experts[0]];
  float sum = 0;
  for (int64_t k = 0; k < top_k; ++k) sum += weights[k] = simd::exp(logits[experts[k]] - largest);
  if (!scoring.renormalize) {
    sum = 0;
    for (int64_t e = 0; e < num_experts; ++e) sum += simd::exp(logits[e] - largest);
  }
  for (int64_t k = 0; k < top_k; ++k) weights[k] = weights[k] / sum * scoring.scale;
}

// `scores` has the logits, and room for as many more behind them.
void sigmoid_weights(const Scoring& scoring, const Tensor& correction, float* scores, int64_t num_experts,
                     int64_t top_k, int32_t* experts, float* weights) {
  float* corrected = scores + num_experts;
  for (int64_t e = 0; e < num_experts; ++e) {
    scores[e] = sigmoid(scores[e]);
    corrected[e] = correction ? scores[e] + correction.as<float>()[e] : scores[e];
  }
  choose(corrected, num_experts, top_k, experts);
  float sum = 0;
  for (int64_t k = 0; k < top_k; ++k) sum += weights[k] = scores[experts[k]];
  const float divisor = scoring.renormalize ? sum + 1e-20f : 1.0f;
  for (int64_t k = 0; k < top_k; ++k) weights[k] = weights[k] / divisor * scoring.scale;
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
    float* p = scratch_[thread].products.reserve(2 * num_experts);
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
      if (args.scoring.sigmoid) {
        sigmoid_weights(args.scoring, args.correction, p, num_experts, top_k, experts, weights);
      } else {
        softmax_weights(args.scoring, p, num_experts, top_k, experts, weights);
      }
      if (!args.shared_gate) continue;
      visit_act(args.x.dtype, [&]<typename Act>(Act) {
        const float logit = simd::dot(args.x.as<Act>() + token * hidden, args.shared_gate.as<float>(), hidden);
        args.out.shared_weights.as<float>()[token] = sigmoid(logit);
      });
    }
  });
  place_rows(args.out, tokens, top_k, num_experts);
}

}  // namespace hearth
