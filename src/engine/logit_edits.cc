// LogitEdits: one entry a token, kept up to date as tokens are generated.
#include "engine/logit_edits.h"

#include <algorithm>
#include <limits>

namespace hearth {

LogitEdits::LogitEdits(const Request& request, std::span<const int32_t> stops) {
  const SamplingParams& sampling = request.sampling;
  const bool repetition = sampling.repetition_penalty != 1.0f;
  counts_generated_ = repetition || sampling.frequency_penalty != 0.0f || sampling.presence_penalty != 0.0f;
  for (const auto& [token, bias] : sampling.logit_bias) of(token).bias = bias;
  if (repetition) {
    for (int32_t token : request.prompt) of(token).count = -1;
  }
  if (sampling.min_tokens > 0) {
    for (int32_t token : stops) of(token).stop = true;
  }
}

LogitEdits::Edit& LogitEdits::of(int32_t token) {
  const auto [it, added] = by_token_.try_emplace(token, edits_.size());
  if (added) edits_.push_back({token});
  return edits_[it->second];
}

void LogitEdits::count_generated(int32_t token) {
  if (!counts_generated_) return;
  Edit& edit = of(token);
  edit.count = std::max(edit.count, 0) + 1;
}

void LogitEdits::append_to(StepPlan& plan, bool mask_stops) const {
  for (const Edit& edit : edits_) {
    const float bias = edit.stop && mask_stops ? -std::numeric_limits<float>::infinity() : edit.bias;
    if (edit.count == 0 && bias == 0) continue;
    plan.edit_tokens.push_back(edit.token);
    plan.edit_counts.push_back(edit.count);
    plan.edit_biases.push_back(bias);
  }
}

}  // namespace hearth
