// LatencyPolicy: what the latency targets ask of the next step and of a new request. Pure functions of the requests'
// progress and the step-time model; the rules are explained in docs/latency_budget.md. Times are seconds on the
// engine's clock.
#pragma once

#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "engine/engine.h"
#include "engine/step_time_model.h"

namespace hearth {

// A request's progress, as far as a forecast needs it.
struct Progress {
  double arrival = 0;
  std::optional<double> first_token;  // when it came; none: not committed yet
  int64_t computed = 0;               // tokens in the cache
  int64_t to_compute = 0;             // tokens up to the next draw; 1: it generates
  int64_t generated = 0;
  int64_t output_left = 0;   // draws to come, estimated
  int64_t cache_tokens = 0;  // KV cache it needs at admission
  double due = std::numeric_limits<double>::infinity();
  int32_t priority = 0;
  LatencyTargets own;  // the request's own; 0: the server's
};

// The running and the waiting requests, each list in the order in which they are served.
struct Outlook {
  double start = 0;      // when the next step that is not submitted yet will begin
  double mean_step = 0;  // recent mean time of a step
  std::vector<Progress> running, waiting;
  int64_t cache_room = 0;  // free KV cache, in tokens

  // Inserts where the scheduler will: by priority, then by due time, then by arrival. Returns the index in `waiting`.
  size_t enqueue(const Progress& newcomer);
};

class LatencyPolicy {
 public:
  struct Limits {
    int64_t max_tokens, max_sequences;  // of a step
  };
  LatencyPolicy(const LatencyTargets& targets, const Limits& limits) : targets_(targets), limits_(limits) {}

  // When a request must have its first token.
  double due(double arrival, int64_t output, double mean_step, const LatencyTargets& own = {}) const;
  // The targets of a request: its own, else the server's. For the total latency, the shorter of both.
  LatencyTargets effective(const LatencyTargets& own) const;

  // Token budget of a step that begins at `start`: the most tokens with which every generating request keeps the pace
  // that its targets ask for. At least one for each of these requests.
  int64_t token_budget(const StepTimeModel& model, std::span<const Progress> running, double start) const;

  // The forecast of one request.
  struct Fate {
    double used = 0;                     // of its targets, the largest share used up; 1: just kept
    std::optional<double> started, end;  // when it leaves the queue; when its last token comes
  };
  // Simulates the coming steps as the scheduler would make them. One Fate a request, running ones first. With `until`
  // it stops when that request ends; an end too far away is estimated.
  std::vector<Fate> forecast(const StepTimeModel& model, Outlook outlook, std::optional<size_t> until = {}) const;

  // None: the request may join. It keeps its targets, and so does everybody else. Otherwise it must be refused: the
  // share of a target that it would use, or 0 where it would make others late.
  std::optional<double> refusal(const StepTimeModel& model, const Outlook& outlook, const Progress& newcomer) const;

 private:
  double tpot_pace(const Progress& progress, double start, double least) const;
  double latency_pace(const Progress& progress, double start, double least) const;
  int64_t efficient_tokens(const StepTimeModel& model, const StepWork& decodes) const;

  const LatencyTargets targets_;
  const Limits limits_;
};

}  // namespace hearth
