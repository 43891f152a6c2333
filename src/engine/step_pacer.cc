// The shortest of late, forgotten slowly, and a reserve that doubles when it was too small.
#include "engine/step_pacer.h"

#include <algorithm>

namespace hearth {

namespace {

constexpr double kForget = 1.01;        // how much longer the shortest becomes with each step
constexpr double kShrink = 0.995;       // of the reserve, with each step that came in time
constexpr double kShortStep = 0.008;    // seconds: not worth a wait
constexpr double kForPlanning = 0.001;  // seconds, besides the reserve

}  // namespace

void StepPacer::observe(int64_t tokens, double seconds, bool late) {
  const auto [at, is_new] = shortest_.try_emplace(tokens / kClass, seconds);
  if (!is_new) at->second = std::min(seconds, at->second * kForget);
  reserve_ = late ? std::min(2 * reserve_, 1.0) : std::max(kShrink * reserve_, kLeastReserve);
}

double StepPacer::patience(int64_t tokens) const {
  const auto at = shortest_.find(tokens / kClass);
  if (at == shortest_.end() || at->second < kShortStep) return 0;
  return std::max(at->second * (1 - reserve_) - kForPlanning, 0.0);
}

}  // namespace hearth
