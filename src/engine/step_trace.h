// StepTrace: a timeline of the engine in a file, in the trace-event JSON that Perfetto and chrome://tracing open: one
// row for the device's steps, one for what the engine's thread does meanwhile. Used by one thread.
#pragma once

#include <fstream>
#include <memory>
#include <string>

#include "base/clock.h"
#include "engine/step_plan.h"

namespace hearth {

class StepTrace {
 public:
  static constexpr int64_t kMaxBytes = int64_t{64} << 20;  // some 100,000 steps

  // kUnavailable where the file cannot be written. It ends at `max_bytes`.
  static Result<std::unique_ptr<StepTrace>> open(const std::string& path, int64_t max_bytes = kMaxBytes);
  ~StepTrace();

  void host(std::string_view what, TimePoint begin, TimePoint end);
  // A step whose end was seen at `seen`. Steps come in their order.
  void device(const StepPlan& plan, const RunTime& time, TimePoint seen);

 private:
  StepTrace(std::ofstream file, int64_t max_bytes);
  void event(int row, std::string_view name, double begin_us, double duration_us, std::string_view args);
  void write(const std::string& event);

  std::ofstream file_;
  int64_t bytes_left_;
  // The device's clock starts with the first step; `offset_` is what it lacks to the host's.
  double device_seconds_ = 0, offset_ = 0;
  bool any_step_ = false;
};

}  // namespace hearth
