// StepTime: how long a step takes on a pretend device. A roofline: a step reads the weights its tokens need and
// computes its tokens, whichever takes longer, and attention comes on top. Microseconds. As they are, one H200 with
// Mixtral 8x7B in FP8 at about 85% of its floors. Or, in place of the roofline, points that were measured.
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "engine/step_time_model.h"

namespace hearth {

struct StepTime {
  double fixed_us = 5000;     // launches, and weights that every step reads
  double experts_us = 12000;  // the weights of all experts
  double untouched = 0.75;    // share of the experts that a token does not go to
  double token_us = 20;       // arithmetic
  double context_token_us = 0.03;
  double prompt_pair_us = 0.001;
  double noise = 0;  // standard deviation, relative
  // Tokens, rising from 0, and what their step takes without attention; straight lines between.
  std::vector<std::pair<double, double>> points = {};

  Duration operator()(const StepWork& work) const {
    const double tokens_us = points.empty() ? roofline(work.tokens) : between_points(work.tokens);
    const double us = tokens_us + context_token_us * work.context_tokens + prompt_pair_us * work.prompt_pairs;
    return std::chrono::nanoseconds(static_cast<int64_t>(us * 1000));
  }

 private:
  double roofline(double tokens) const {
    const double reads = fixed_us + experts_us * (1 - std::pow(untouched, tokens));
    return std::max(reads, token_us * tokens);
  }
  double between_points(double tokens) const {
    size_t i = 1;
    while (i + 1 < points.size() && points[i].first < tokens) ++i;
    const auto [from, low] = points[i - 1];
    const auto [to, high] = points[i];
    return low + (high - low) * (tokens - from) / (to - from);
  }
};

}  // namespace hearth
