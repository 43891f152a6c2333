// Perplexity of a text under a model: exp of the mean negative log-likelihood of its tokens, each given those before it
// in its window.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "models/model.h"

namespace hearth {

struct PerplexityResult {
  struct Window {
    int64_t scored = 0;  // tokens predicted: all but the first
    double nll = 0.0;    // their sum, natural logarithm
  };
  std::vector<Window> windows;  // what two models differ by, window by window, tells how sure the difference is
  int64_t scored = 0;           // of all windows
  double total_nll = 0.0;
  double perplexity() const { return std::exp(total_nll / static_cast<double>(scored)); }
};

// Windows of `window` tokens follow each other without overlap (0: the model's length); a last one of a single token is
// left out. Runs in steps of at most `step` tokens, which the model's max_tokens and max_logits must both hold, so
// memory is bounded by step * vocabulary whatever the text's length.
Result<PerplexityResult> measure_perplexity(Backend& backend, Model& model, std::span<const int32_t> tokens,
                                            int64_t window, int64_t step,
                                            const std::function<void(const PerplexityResult&)>& progress = {});

}  // namespace hearth
