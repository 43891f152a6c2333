// Metrics: the Prometheus page. Each family is hearth:NAME, and vllm:NAME too where vLLM has that name with
// that meaning: autoscalers and gateways read those. Each replica has the label engine="0", "1" and on; what can be
// added up stands under hearth:server_NAME, without that label, too. Everything here runs on the I/O thread; what the
// engine knows comes in with its stats.
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
  // One that was counted elsewhere, by upper bounds that are powers of two. It has the same buckets whatever was
  // counted: those who store it would take others for another series.
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
  explicit Metrics(std::string_view model_name, int64_t replicas = 1);

  void first_token(int64_t replica, Duration since_arrival) override;
  void next_tokens(int64_t replica, Duration since_last, int64_t count) override;
  void finished(const Finished& request) override;

  // Of each replica, and whether it serves.
  std::string render(const std::vector<EngineStats>& stats, const std::vector<Status>& health,
                     int64_t block_size) const;

 private:
  // Of the requests of one replica.
  struct Requests {
    Requests();
    Histogram time_to_first_token, inter_token, time_per_output_token, e2e;
    Histogram queue, prefill, decode, inference;
    Histogram prompt_tokens, generation_tokens;
    std::map<std::string, int64_t, std::less<>> finished;
  };
  Requests& of(int64_t replica) { return requests_[static_cast<size_t>(replica)]; }

  const std::string model_label_;  // model_name="..."
  std::vector<Requests> requests_;
};

}  // namespace hearth
