// Numbers of milliseconds, whole or not.
#include "server/request_times.h"

#include <charconv>

namespace hearth {
namespace {

constexpr double kMostMilliseconds = 86'400'000;

// Seconds; 0: the request has no such header.
Result<double> read_seconds(const HttpRequest& request, std::string_view name) {
  const std::string_view text = request.header(name);
  if (text.empty()) return 0.0;
  double milliseconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), milliseconds);
  if (error != std::errc() || end != text.data() + text.size() || !(milliseconds > 0) ||
      milliseconds > kMostMilliseconds) {
    return invalid("the header ", name, " must be a number of milliseconds, above 0 and up to a day").with_param(name);
  }
  return milliseconds / 1000;
}

}  // namespace

Result<CallTimes> read_call_times(const HttpRequest& request, TimePoint arrival) {
  CallTimes out(arrival);
  HEARTH_ASSIGN(const double timeout, read_seconds(request, "x-request-timeout-ms"));
  HEARTH_ASSIGN(out.targets.ttft, read_seconds(request, "x-llm-d-slo-ttft-ms"));
  HEARTH_ASSIGN(out.targets.tpot, read_seconds(request, "x-llm-d-slo-tpot-ms"));
  if (timeout > 0)
    out.deadline = arrival + std::chrono::duration_cast<Duration>(std::chrono::duration<double>(timeout));
  return out;
}

}  // namespace hearth
