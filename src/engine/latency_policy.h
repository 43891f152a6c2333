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

// How far a request is, as a forecast needs it.
struct Progress {
  double arrival = 0;
  std::optional<double> first_token;  // when it came; none: not yet, or it is on its way
  int64_t computed = 0;               // tokens in the cache
  int64_t to_compute = 0;             // up to the next draw; 1: it generates
  int64_t generated = 0;
  int64_t output_left = 0;   // draws to come, as far as one can know
  int64_t cache_tokens = 0;  // room it takes, or took, at admission
  double due = std::numeric_limits<double>::infinity();
  int32_t priority = 0;
  LatencyTargets own;  // in place of everybody's; 0: those
};

// The requests in work and in the queue, each in the order in which they are served.
struct Outlook {
  double start = 0;      // of the next step that is not submitted yet
  double mean_step = 0;  // of late, where steps are being made
  std::vector<Progress> running, waiting;
  int64_t cache_room = 0;  // tokens

  // Where the scheduler will put it: by priority, then by what is due first, then by arrival.
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
  // What one with `own` targets is to keep: those, and everybody's where it has none. The total is the shorter of both.
  LatencyTargets effective(const LatencyTargets& own) const;

  // Tokens of a step that begins at `start`: the most with which whoever generates keeps the pace its targets ask for;
  // at least one for each of them.
  int64_t token_budget(const StepTimeModel& model, std::span<const Progress> running, double start) const;

  // What becomes of a request.
  struct Fate {
    double used = 0;                     // the largest share of a target; 1: just kept
    std::optional<double> started, end;  // it left the queue, its last token came
  };
  // Plays the future out, as the scheduler would, for each request, running ones first; or until the end of the one at
  // `until`, whose end is estimated where it is too far away.
  std::vector<Fate> forecast(const StepTimeModel& model, Outlook outlook, std::optional<size_t> until = {}) const;

  // None: a request may join, it keeps its targets and takes them from nobody. Otherwise the share of a target it would
  // use, or 0 where others would be late by it.
  std::optional<double> refusal(const StepTimeModel& model, const Outlook& outlook, const Progress& newcomer) const;

 private:
  double tpot_pace(const Progress& progress, double start, double least) const;
  double latency_pace(const Progress& progress, double start, double least) const;
  int64_t efficient_tokens(const StepTimeModel& model, const StepWork& decodes) const;

  const LatencyTargets targets_;
  const Limits limits_;
};

}  // namespace hearth
