// Metrics: the Prometheus page. Each family is hearth:NAME, and vllm:NAME too where vLLM has that name with
// that meaning: autoscalers and gateways read those. Everything here runs on the I/O thread; what the engine knows
// comes in with its stats.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "api/answer.h"

namespace hearth {

class Histogram {
 public:
  explicit Histogram(std::vector<double> bounds) : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}
  // One that was counted elsewhere: by upper bound, none beyond the last.
  Histogram(const std::map<int64_t, int64_t>& counts, double sum);
  void observe(double value, int64_t times = 1);
  const std::vector<double>& bounds() const { return bounds_; }
  int64_t count(size_t bucket) const { return counts_[bucket]; }
  double sum() const { return sum_; }

 private:
  std::vector<double> bounds_;  // upper, inclusive, rising; one more bucket takes the rest
  std::vector<int64_t> counts_;
  double sum_ = 0;
};

class Metrics final : public ServingObserver {
 public:
  explicit Metrics(std::string_view model_name);

  void first_token(Duration since_arrival) override;
  void next_tokens(Duration since_last, int64_t count) override;
  void finished(const Finished& request) override;

  std::string render(const EngineStats& stats, int64_t block_size) const;

 private:
  const std::string labels_;  // model_name="...",engine="0"
  Histogram time_to_first_token_, inter_token_, time_per_output_token_, e2e_;
  Histogram queue_, prefill_, decode_, inference_;
  Histogram prompt_tokens_, generation_tokens_;
  std::map<std::string, int64_t, std::less<>> finished_;
};

}  // namespace hearth
