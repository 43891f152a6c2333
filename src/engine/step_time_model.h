// StepTimeModel: how long a step takes, from what is in it: a table over its tokens (expert weights make it flat, then
// linear), plus what attention reads for generated tokens and computes for prompt tokens. Seconds. Measured at start
// (step_time_probe.h), corrected after every step; no term is ever negative.
#pragma once

#include <vector>

#include "engine/step_plan.h"

namespace hearth {

struct StepWork {
  double tokens = 0;
  double context_tokens = 0;  // read by single tokens: bandwidth
  double prompt_pairs = 0;    // a chunk's tokens, each times the context it sees: arithmetic

  // A sequence's tokens [start, start + count).
  void add(int64_t start, int64_t count);
  static StepWork of(const StepPlan& plan);
};

class StepTimeModel {
 public:
  struct Knot {
    double tokens, seconds;
  };
  // Knots with rising tokens; times are made to rise with them.
  StepTimeModel(std::vector<Knot> knots, double seconds_per_context_token, double seconds_per_prompt_pair);

  double predict(const StepWork& work) const;
  // A step took so long: moves every term by its share of the error. An outlier moves them little, a lasting change as
  // far as it is wide.
  void observe(const StepWork& work, double seconds);

  const std::vector<Knot>& knots() const { return knots_; }
  double seconds_per_context_token() const { return per_context_token_; }
  double seconds_per_prompt_pair() const { return per_prompt_pair_; }

 private:
  // Between knots `index` and `index + 1`, `share` of the way.
  struct Place {
    size_t index;
    double share;
  };
  Place locate(double tokens) const;

  std::vector<Knot> knots_;  // at least two
  double per_context_token_, per_prompt_pair_;
  double deviation_;  // of steps from their prediction, relative
};

}  // namespace hearth
