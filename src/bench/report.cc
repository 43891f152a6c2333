// The arithmetic behind the bench's tables.
#include "bench/report.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

namespace hearth {

Percentiles percentiles(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const auto pick = [&](double p) {
    const auto rank = static_cast<size_t>(std::ceil(p / 100 * static_cast<double>(values.size())));
    return values[std::max<size_t>(rank, 1) - 1];
  };
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  return {sum / static_cast<double>(values.size()), pick(50), pick(90), pick(99)};
}

LoadSummary summarize(const LoadOptions& options, const std::vector<RequestRecord>& records, const Budgets& budgets) {
  LoadSummary out;
  out.concurrency = options.rate > 0 ? 0 : options.concurrency;
  out.requests = static_cast<int64_t>(records.size());
  std::vector<double> ttft, itl, tpot, total;
  const double end = options.warm_up + options.seconds;
  int64_t finished = 0, good = 0, output_tokens = 0, prompt_tokens = 0;
  for (const RequestRecord& r : records) {
    if (!r.error.empty()) {
      if (out.lost++ == 0) out.first_error = r.error;
      continue;
    }
    ttft.push_back(r.ttft());
    total.push_back(r.total());
    if (r.output_tokens > 1) tpot.push_back(r.tpot());
    itl.insert(itl.end(), r.inter_token.begin(), r.inter_token.end());
    const bool kept = (!budgets.ttft || r.ttft() <= *budgets.ttft) && (!budgets.tpot || r.tpot() <= *budgets.tpot) &&
                      (!budgets.total || r.total() <= *budgets.total);
    good += kept;
    if (r.last <= end) {
      ++finished;
      output_tokens += r.output_tokens;
      prompt_tokens += r.prompt_tokens;
    }
  }
  const double time = options.seconds;
  out.finished_per_second = static_cast<double>(finished) / time;
  out.offered = options.rate;
  out.rate = options.rate > 0 ? static_cast<double>(out.requests) / time : out.finished_per_second;
  out.output_tokens_per_second = static_cast<double>(output_tokens) / time;
  out.total_tokens_per_second = static_cast<double>(output_tokens + prompt_tokens) / time;
  out.goodput = static_cast<double>(good) / time;
  out.ttft = percentiles(std::move(ttft));
  out.itl = percentiles(std::move(itl));
  out.tpot = percentiles(std::move(tpot));
  out.total = percentiles(std::move(total));
  return out;
}

Json to_json(const LoadSummary& s) {
  const auto spread = [](const Percentiles& p) {
    return Json{{"mean", p.mean}, {"p50", p.p50}, {"p90", p.p90}, {"p99", p.p99}};
  };
  Json out = {{"rate", s.rate},
              {"concurrency", s.concurrency},
              {"requests", s.requests},
              {"lost", s.lost},
              {"finished_per_s", s.finished_per_second},
              {"output_tokens_per_s", s.output_tokens_per_second},
              {"total_tokens_per_s", s.total_tokens_per_second},
              {"goodput_per_s", s.goodput},
              {"ttft_s", spread(s.ttft)},
              {"itl_s", spread(s.itl)},
              {"tpot_s", spread(s.tpot)},
              {"total_s", spread(s.total)}};
  if (s.offered > 0) out["offered"] = s.offered;
  if (!s.first_error.empty()) out["first_error"] = s.first_error;
  return out;
}

std::optional<CutoffRate> rate_at_cutoff(const std::vector<LoadSummary>& points, double cutoff) {
  std::vector<std::pair<double, double>> curve;  // rate, median total latency
  for (const LoadSummary& p : points) {
    if (p.lost == 0 && p.requests > 0) curve.emplace_back(p.rate, p.total.p50);
  }
  std::sort(curve.begin(), curve.end());
  if (curve.empty() || curve.front().second > cutoff) return std::nullopt;
  for (size_t i = 1; i < curve.size(); ++i) {
    const auto [rate0, latency0] = curve[i - 1];
    const auto [rate1, latency1] = curve[i];
    if (latency1 > cutoff) {
      return CutoffRate{rate0 + (rate1 - rate0) * (cutoff - latency0) / (latency1 - latency0), true};
    }
  }
  return CutoffRate{curve.back().first, false};
}

}  // namespace hearth
