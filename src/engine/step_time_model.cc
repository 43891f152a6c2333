// Prediction and correction of a step's time.
#include "engine/step_time_model.h"

#include <algorithm>
#include <cmath>

namespace hearth {

namespace {

constexpr double kRate = 0.1;  // of correction: a change is learned in tens of steps
// Errors count for at most so many deviations. The deviation grows with clipped errors too, so that a device that
// became slower for good is believed after some steps.
constexpr double kOutlier = 4;
constexpr double kFirstDeviation = 0.05, kLeastDeviation = 0.01;

}  // namespace

void StepWork::add(int64_t start, int64_t count) {
  const auto first = static_cast<double>(start), n = static_cast<double>(count);
  tokens += n;
  (count == 1 ? context_tokens : prompt_pairs) += n * (first + (n + 1) / 2);
}

StepWork StepWork::of(const StepPlan& plan) {
  StepWork work;
  for (const StepSequence& part : plan.sequences) work.add(part.start, part.num_tokens);
  return work;
}

StepTimeModel::StepTimeModel(std::vector<Knot> knots, double seconds_per_context_token, double seconds_per_prompt_pair)
    : knots_(std::move(knots)),
      per_context_token_(std::max(seconds_per_context_token, 0.0)),
      per_prompt_pair_(std::max(seconds_per_prompt_pair, 0.0)),
      deviation_(kFirstDeviation) {
  HEARTH_CHECK(!knots_.empty());
  if (knots_.size() == 1) knots_.push_back({knots_[0].tokens + 1, knots_[0].seconds});
  for (size_t i = 1; i < knots_.size(); ++i) {
    HEARTH_CHECK(knots_[i].tokens > knots_[i - 1].tokens);
    knots_[i].seconds = std::max(knots_[i].seconds, knots_[i - 1].seconds);
  }
}

StepTimeModel::Place StepTimeModel::locate(double tokens) const {
  const auto above = std::ranges::lower_bound(knots_, tokens, {}, &Knot::tokens) - knots_.begin();
  const auto index = static_cast<size_t>(std::clamp<std::ptrdiff_t>(above - 1, 0, std::ssize(knots_) - 2));
  const double width = knots_[index + 1].tokens - knots_[index].tokens;
  return {index, std::clamp((tokens - knots_[index].tokens) / width, 0.0, 1.0)};
}

double StepTimeModel::predict(const StepWork& work) const {
  const auto [i, share] = locate(work.tokens);
  return knots_[i].seconds * (1 - share) + knots_[i + 1].seconds * share + per_context_token_ * work.context_tokens +
         per_prompt_pair_ * work.prompt_pairs;
}

void StepTimeModel::observe(const StepWork& work, double seconds) {
  const double predicted = predict(work);
  if (!(predicted > 0) || !(seconds > 0)) return;
  const double limit = kOutlier * deviation_;
  const double error = std::clamp(seconds / predicted - 1, -limit, limit);
  deviation_ = std::max(deviation_ + kRate * (std::abs(error) - deviation_), kLeastDeviation);

  // The smallest relative change of the terms that takes away kRate of the error.
  const auto [i, share] = locate(work.tokens);
  struct Term {
    double& parameter;
    double seconds;
  };
  const Term terms[] = {{knots_[i].seconds, knots_[i].seconds * (1 - share)},
                        {knots_[i + 1].seconds, knots_[i + 1].seconds * share},
                        {per_context_token_, per_context_token_ * work.context_tokens},
                        {per_prompt_pair_, per_prompt_pair_ * work.prompt_pairs}};
  double squares = 0;
  for (const Term& term : terms) squares += term.seconds * term.seconds;
  for (const Term& term : terms) term.parameter *= 1 + kRate * error * predicted * term.seconds / squares;

  // More tokens never take less time: what was learned here bounds the knots that are seldom seen.
  if (knots_[i].seconds > knots_[i + 1].seconds) {
    knots_[i].seconds = knots_[i + 1].seconds = (knots_[i].seconds + knots_[i + 1].seconds) / 2;
  }
  for (size_t k = i; k-- > 0;) knots_[k].seconds = std::min(knots_[k].seconds, knots_[k + 1].seconds);
  for (size_t k = i + 2; k < knots_.size(); ++k) knots_[k].seconds = std::max(knots_[k].seconds, knots_[k - 1].seconds);
}

}  // namespace hearth
