// Time as the engine sees it: an injected monotonic clock, so that the simulator can run the real scheduler.
#pragma once

#include <chrono>

namespace hearth {

using Duration = std::chrono::nanoseconds;
using TimePoint = std::chrono::nanoseconds;  // since an arbitrary start

class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimePoint now() const = 0;
};

class SteadyClock final : public Clock {
 public:
  TimePoint now() const override { return std::chrono::steady_clock::now().time_since_epoch(); }
};

class ManualClock final : public Clock {
 public:
  TimePoint now() const override { return now_; }
  void advance(Duration by) { now_ += by; }

 private:
  TimePoint now_{0};
};

inline double seconds(Duration d) { return std::chrono::duration<double>(d).count(); }

}  // namespace hearth
