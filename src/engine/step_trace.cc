// One complete event ("X") a span; a file cut short by a crash still opens.
#include "engine/step_trace.h"

#include <algorithm>

#include "base/log.h"

namespace hearth {
namespace {

constexpr int kDeviceRow = 1, kHostRow = 2;
// By how much the two clocks may drift apart: beyond any crystal's error.
constexpr double kClockDrift = 1e-4;

std::string row_name(int row, std::string_view name) {
  return cat(R"({"name":"thread_name","ph":"M","pid":1,"tid":)", row, R"(,"args":{"name":")", name, "\"}}");
}

}  // namespace

Result<std::unique_ptr<StepTrace>> StepTrace::open(const std::string& path, int64_t max_bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  if (!file) return Status(Code::kUnavailable, cat("--trace: ", path, " cannot be written"));
  std::unique_ptr<StepTrace> trace(new StepTrace(std::move(file), max_bytes));
  if (!trace->file_.flush()) return Status(Code::kUnavailable, "--trace: there is no room for the file");
  return trace;
}

StepTrace::StepTrace(std::ofstream file, int64_t max_bytes) : file_(std::move(file)), bytes_left_(max_bytes) {
  file_ << "[" << row_name(kDeviceRow, "device");
  write(row_name(kHostRow, "engine"));
}

StepTrace::~StepTrace() {
  if (!file_) return;  // said when it happened
  file_ << "]\n";
  file_.flush();
  if (!file_) log_warning("the end of the trace could not be written");
}

void StepTrace::host(std::string_view what, TimePoint begin, TimePoint end) {
  event(kHostRow, what, seconds(begin) * 1e6, seconds(end - begin) * 1e6, "");
}

void StepTrace::device(const StepPlan& plan, const RunTime& time, TimePoint seen) {
  device_seconds_ += time.gap + time.seconds;
  // A step's end is seen late, never early: the least distance between the clocks is the true one, but for their drift.
  const double distance = seconds(seen) - device_seconds_;
  offset_ = any_step_ ? std::min(offset_ + kClockDrift * (time.gap + time.seconds), distance) : distance;
  any_step_ = true;
  event(kDeviceRow, cat(plan.num_tokens(), " tokens"), (offset_ + device_seconds_ - time.seconds) * 1e6,
        time.seconds * 1e6, cat(R"("step":)", plan.step, R"(,"sequences":)", plan.sequences.size()));
}

void StepTrace::event(int row, std::string_view name, double begin_us, double duration_us, std::string_view args) {
  write(cat(R"({"name":")", name, R"(","ph":"X","pid":1,"tid":)", row, R"(,"ts":)", begin_us, R"(,"dur":)", duration_us,
            R"(,"args":{)", args, "}}"));
}

void StepTrace::write(const std::string& event) {
  if (bytes_left_ <= 0) return;
  file_ << ",\n" << event;
  bytes_left_ -= std::ssize(event);
  if (!file_) {
    bytes_left_ = 0;
    log_warning("the trace's file cannot be written any more; the server goes on without");
  } else if (bytes_left_ <= 0) {
    log_warning("the trace's file is full; the server goes on without");
  }
}

}  // namespace hearth
