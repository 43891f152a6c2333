// StepTimeModel: predicts a step's time in seconds. It is a table over the number of tokens (flat while expert weights
// dominate, then linear), plus a term for what attention reads for generated tokens, plus one for what it computes for
// prompt tokens. Measured at start (step_time_probe.h), corrected after every step. No term is ever negative.
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
  // Knots in ascending order of tokens. Times are raised where they would fall.
  StepTimeModel(std::vector<Knot> knots, double seconds_per_context_token, double seconds_per_prompt_pair);

  double predict(const StepWork& work) const;
  // Corrects the model by a measured step: each term moves by its share of the error. A single outlier moves the terms
  // little; a lasting change moves them all the way.
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
