// LatencyBudget: keeps the latency targets in a running engine. It owns the step-time model and corrects it, knows when
// the steps in flight will end, and refuses on arrival what cannot be served in time. Without targets it only
// forecasts.
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
  // `keeps_targets`: these, and those that requests bring; else it forecasts, no more.
  LatencyBudget(const LatencyTargets& targets, const LatencyPolicy::Limits& limits, StepTimeModel model,
                bool keeps_targets = true);

  // From any thread, one call at a time. Ok: it joins what the next ones are judged by, until publish() after its
  // joined(). The forecast holds no lock: the engine's thread never waits for it.
  Status accept(const Request& request, int64_t max_output, TimePoint now);

  // What would become of it, with so many tokens of its prompt in the prefix cache. From any thread.
  Forecast forecast(const Request& request, int64_t cached, int64_t max_output, TimePoint now) const;

  // All further calls belong to the engine's thread.
  double due(const Request& request, int64_t max_output) const;
  // With its deadline as a target of the total.
  LatencyTargets own_targets(const Request& request) const;
  // Tokens it will yet generate: an upper bound where no end token can stop it, else from what others generated.
  int64_t expected_output(const SamplingParams& sampling, int64_t generated, int64_t max_output) const;
  // Tokens of a queued prompt that the prefix cache will lack.
  int64_t expected_prompt(int64_t prompt_len) const;

  int64_t token_budget(std::span<const Progress> running, TimePoint now) const {
    return policy_.token_budget(model_, running, next_start(now));
  }
  void submitted(const StepPlan& plan, TimePoint now);
  void completed(TimePoint now);  // the oldest step in flight
  void joined() { ++joined_; }    // the first of those accepted is now the engine's
  void admitted(int64_t prompt_len, int64_t cached);
  void ended(int64_t generated, bool by_itself);
  // What newcomers are judged by from now on; without its times.
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
  std::map<int64_t, int64_t> errors_;  // of predictions: percent, rounded up to a power of two
  double error_sum_ = 0;

  std::atomic<double> mean_step_ = 0;  // seconds
  std::atomic<double> output_;         // tokens that few answers exceed
  std::atomic<double> uncached_ = 1;   // share of prompts
  std::atomic<int64_t> refused_ = 0;

  int64_t joined_ = 0;  // the first of accepted_, which the next published outlook holds

  double next_trial_ = 0;  // accept()'s
  struct Published {
    Outlook outlook;  // the engine's last, and accepted_
    StepTimeModel model;
  };
  mutable std::mutex mutex_;  // of what follows
  std::deque<Progress> accepted_;
  Published published_;
};

}  // namespace hearth
