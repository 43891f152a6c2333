// From records to figures: percentiles, throughput, goodput, and the load at which a latency cut-off is reached.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "bench/load.h"

namespace hearth {

struct Percentiles {
  double mean = 0, p50 = 0, p90 = 0, p99 = 0;
};
// Nearest-rank percentiles (the smallest value that at least p percent do not exceed); all 0 of nothing.
Percentiles percentiles(std::vector<double> values);

// Budgets in seconds; a request is good when it keeps all that are given.
struct Budgets {
  std::optional<double> ttft, tpot, total;
};

struct LoadSummary {
  double offered = 0;  // requests a second asked for, open loop; in a short run others arrive
  double rate = 0;     // that arrived in the counted time; closed loop: that finished in it
  int64_t concurrency = 0;
  int64_t requests = 0, lost = 0;
  double finished_per_second = 0;  // of the counted time
  double output_tokens_per_second = 0, total_tokens_per_second = 0;
  double goodput = 0;  // good requests a second
  Percentiles ttft, itl, tpot, total;
  std::string first_error;
};

LoadSummary summarize(const LoadOptions& options, const std::vector<RequestRecord>& records, const Budgets& budgets);
Json to_json(const LoadSummary& summary);

// The rate at which the median total latency reaches `cutoff`, between the measured points by straight lines;
// points that lost requests do not count. Empty when the lowest load is past it already; `bounded` is false when even
// the highest load stays under it, and the rate is then the highest measured.
struct CutoffRate {
  double rate = 0;
  bool bounded = true;
};
std::optional<CutoffRate> rate_at_cutoff(const std::vector<LoadSummary>& points, double cutoff);

}  // namespace hearth
