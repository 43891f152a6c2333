// LatencyBudget: keeps the latency targets in a running engine. It owns the step-time model and corrects it. It knows
// when the steps in flight will end. It refuses a request on arrival if that cannot be served in time. Without targets
// it only forecasts.
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <mutex>

#include "engine/latency_policy.h"
#include "engine/request.h"

namespace hearth {

class LatencyBudget {
 public:
  // `keeps_targets`: whether `targets`, and those of requests, are kept. If not, it only forecasts.
  LatencyBudget(const LatencyTargets& targets, const LatencyPolicy::Limits& limits, StepTimeModel model,
                bool keeps_targets = true);

  // From any thread, one call at a time. An accepted request counts when the next ones are judged. publish() drops it
  // once joined() has been called for it. The forecast holds no lock, so the engine's thread never waits for it.
  Status accept(const Request& request, int64_t max_output, TimePoint now);

  // When the request would end, with `cached` tokens of its prompt in the prefix cache. From any thread.
  Forecast forecast(const Request& request, int64_t cached, int64_t max_output, TimePoint now) const;

  // All further calls belong to the engine's thread.
  double due(const Request& request, int64_t max_output) const;
  // The request's targets; its deadline counts as a target for the total latency.
  LatencyTargets own_targets(const Request& request) const;
  // Tokens that a request will yet generate: the most it may, if no end token can stop it; else from what others did.
  int64_t expected_output(const SamplingParams& sampling, int64_t generated, int64_t max_output) const;
  // Tokens of a queued prompt that the prefix cache is not expected to have.
  int64_t expected_prompt(int64_t prompt_len) const;

  int64_t token_budget(std::span<const Progress> running, TimePoint now) const {
    return policy_.token_budget(model_, running, next_start(now));
  }
  void submitted(const StepPlan& plan, TimePoint now);
  void completed(TimePoint now);  // the oldest step in flight
  void joined() { ++joined_; }    // the engine has taken over the oldest accepted request
  void admitted(int64_t prompt_len, int64_t cached);
  void ended(int64_t generated, bool by_itself);
  // New requests are judged by `outlook` from now on. Its times are filled in here.
  void publish(Outlook outlook, TimePoint now);

  void add_to(EngineStats& stats) const;
  int64_t refused() const { return refused_; }  // from any thread
  const StepTimeModel& step_times() const { return model_; }

 private:
  double next_start(TimePoint now) const;
  Progress newcomer(const Request& request, int64_t to_compute, int64_t max_output) const;

  const bool keeps_targets_;
  const LatencyPolicy policy_;
  StepTimeModel model_;
  struct InFlight {
    StepWork work;
    TimePoint submitted;
  };
  std::deque<InFlight> in_flight_;
  TimePoint last_completed_{0};
  std::map<int64_t, int64_t> errors_;  // of step times: percent, rounded up to a power of two; how many
  double error_sum_ = 0;

  std::atomic<double> mean_step_ = 0;  // seconds
  std::atomic<double> output_;         // length of an answer that few exceed, in tokens
  std::atomic<double> uncached_ = 1;   // share of prompt tokens that the prefix cache lacks
  std::atomic<int64_t> refused_ = 0;

  int64_t joined_ = 0;  // so many at the front of accepted_ will be in the next published outlook

  double next_trial_ = 0;  // used by accept() alone
  struct Published {
    Outlook outlook;  // the engine's last, with accepted_ added
    StepTimeModel model;
  };
  mutable std::mutex mutex_;  // guards the members below
  std::deque<Progress> accepted_;
  Published published_;
};

}  // namespace hearth
