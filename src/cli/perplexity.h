// Perplexity of a text: exp of the mean negative log-likelihood per token, in windows that do not overlap.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "models/model.h"

namespace hearth {

struct Perplexity {
  double value = 0;
  int64_t tokens = 0;  // predicted ones: all but the first of each window
};

// Windows of `window` tokens; `bos` is put before each where it is not negative. The model was loaded with at least
// `chunk` tokens and logits a step.
Result<Perplexity> perplexity(Backend& backend, Model& model, std::span<const int32_t> tokens, int64_t window,
                              int64_t chunk, int32_t bos, const std::function<void(int64_t, int64_t)>& progress);

}  // namespace hearth
