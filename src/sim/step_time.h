// StepTime: how long a step takes, as a linear function of what is in it. Microseconds.
#pragma once

#include "base/clock.h"
#include "engine/step_plan.h"

namespace hearth {

struct StepTime {
  double fixed_us = 5000;     // weights read once, launches
  double token_us = 10;       // arithmetic
  double kv_token_us = 0.05;  // a cached token read by attention

  Duration operator()(const StepPlan& plan) const {
    double kv_tokens = 0;
    for (const StepSequence& part : plan.sequences) kv_tokens += part.start + part.num_tokens;
    const double us = fixed_us + token_us * static_cast<double>(plan.num_tokens()) + kv_token_us * kv_tokens;
    return std::chrono::nanoseconds(static_cast<int64_t>(us * 1000));
  }
};

}  // namespace hearth
