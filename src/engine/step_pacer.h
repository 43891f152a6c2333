// StepPacer: when to plan the step behind the one that runs. Planned at once, it would leave whoever arrives meanwhile
// to the step after it; so it is planned shortly before the other ends, where that is known: steps of about as many
// tokens took no less of late. Where a step had ended before the next one was there, because it was shorter than that
// or the planning thread came late, more time is left from then on.
#pragma once

#include <cstdint>
#include <map>

namespace hearth {

class StepPacer {
 public:
  // A step of `tokens` took so many seconds. `late`: the one behind it was submitted after its end.
  void observe(int64_t tokens, double seconds, bool late);
  // Seconds from the start of a step to the time to plan the next: 0, at once, where a step is short, or new.
  double patience(int64_t tokens) const;

 private:
  std::map<int64_t, double> shortest_;  // of late, by tokens / kClass
  double reserve_ = kLeastReserve;      // share of a step that is left for planning the next

  static constexpr int64_t kClass = 64;
  static constexpr double kLeastReserve = 0.15;
};

}  // namespace hearth
