// Scheduler: which tokens the next step computes, in whose blocks; the state of every live request. No threads, no
// device, no clock: EngineCore drives it, in the server as in the simulation.
//
// schedule() makes a step from what is submitted so far, up to two steps ahead of what is known; commit() is the only
// place where sequences advance. Blocks go back to the pool once no submitted step refers to them.
#pragma once

#include <deque>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/engine.h"
#include "engine/latency_budget.h"
#include "engine/runner.h"
#include "engine/sequence.h"
#include "kv/block_pool.h"

namespace hearth {

class Scheduler {
 public:
  // `step_times`: of the runner; needed to keep latency targets, and to forecast.
  Scheduler(const EngineOptions& options, const RunnerLimits& limits, std::optional<StepTimeModel> step_times = {});

  // From any thread: refuses what can never fit, is or would be late, or finds the queue full. Ok: a place in the queue
  // is taken, and add() must follow.
  Status accept(const Request& request, TimePoint now);
  bool queue_is_full() const;  // likewise
  // Likewise: in place of add().
  void withdraw(const Request& request);
  // Likewise; none: without step times. What can never fit has one too.
  std::optional<Forecast> forecast(const Request& request, TimePoint now) const;
  void add(Request request);
  void cancel(const std::string& id);
  // Ends what is past its deadline.
  void expire(TimePoint now);
  // Ends everything with `error`.
  void fail_all(const Status& error);

  // Whether a mask is being made that a step could need.
  bool waits_for_mask() const;
  MaskMaker& mask_maker() { return *options_.mask_maker; }
  // The next step, valid until its commit; null when nothing can be computed before a commit.
  const StepPlan* schedule(TimePoint now);
  // Takes the result of the oldest step in flight.
  void commit(const StepResult& result, TimePoint now);

  bool has_work() const { return !sequences_.empty() || !in_flight_.empty(); }
  int64_t num_in_flight() const { return std::ssize(in_flight_); }
  EngineStats stats() const;
  int64_t latency_refusals() const { return latency_ ? latency_->refused() : 0; }  // from any thread
  // As measured at start and corrected since; null without latency targets.
  const StepTimeModel* step_times() const { return latency_ ? &latency_->step_times() : nullptr; }

  // Every invariant that ties sequences, steps in flight and blocks together; a violation ends the process.
  void check_integrity() const;
  const std::deque<StepPlan>& in_flight() const { return in_flight_; }
  const BlockPool& pool() const { return pool_; }

 private:
  // Blocks without an owner that a submitted step still refers to.
  struct Retired {
    int64_t last_step;
    std::vector<int32_t> blocks;
  };

  int64_t token_budget(TimePoint now) const;
  int64_t prompt_budget(int64_t budget, int64_t readers) const;
  Progress progress(const Sequence& sequence) const;
  std::vector<Progress> progress_of_running() const;
  void publish_outlook(TimePoint now);
  bool in_flight(const Sequence& sequence) const { return sequence.last_step > committed_step_; }

  void take_masks();
  void take_back_draw(Sequence& sequence);
  void append_forced(Sequence& sequence);
  bool goes_ahead(const Sequence& sequence) const;
  bool has_room(const Sequence& sequence) const;
  bool grow(Sequence& sequence);
  bool admit(Sequence& sequence);
  void preempt(Sequence& sequence);
  int64_t append(StepPlan& plan, Sequence& sequence, int64_t budget);
  void append_row(StepPlan& plan, const Sequence& sequence, int64_t position, bool draws);

  void commit(Sequence& sequence, const StepSequence& part, const StepPlan& plan, const StepResult& result,
              TimePoint now);
  void publish(Sequence& sequence, int64_t computed);
  TokenLogprob logprob(const StepResult& result, int64_t row, int64_t num_top) const;

  Status join_queue(int64_t bytes, bool surely);
  void leave_queue(Sequence& sequence);
  void retire_blocks(Sequence& sequence);
  // The last event; the sequence is gone afterwards.
  void finish(Sequence& sequence, FinishReason reason, Status error = {}, RequestEvent event = {});

  const EngineOptions options_;
  const RunnerLimits limits_;
  const int64_t context_;  // tokens of a sequence at most
  PrefixIndex index_;
  BlockPool pool_;
  int64_t first_token_targets_ = 0;  // live requests that brought one

  const std::shared_ptr<RequestQueue> queue_;  // those accepted and not yet admitted once are in it
  int64_t last_number_ = 0;
  int64_t constrained_ = 0;                                           // live sequences with a grammar
  std::unordered_map<int64_t, std::unique_ptr<Sequence>> sequences_;  // all live ones, by number
  std::unordered_map<std::string, Sequence*> by_id_;
  std::vector<Sequence*> running_;  // ordered by GoesFirst
  std::set<Sequence*, GoesFirst> waiting_;

  int64_t last_step_ = 0, committed_step_ = 0;
  int64_t first_of_work_ = 1;  // no step before it left a request to work on
  std::deque<StepPlan> in_flight_;
  std::deque<Retired> retired_;
  EngineStats stats_;
  std::optional<LatencyBudget> latency_;
};

}  // namespace hearth
