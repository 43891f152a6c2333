// Scheduler: owns the state of every live request, and decides which tokens the next step computes in which KV blocks.
// It has no threads, device or clock. EngineCore drives it, in the server as in the simulation.
//
// schedule() plans a step on top of those submitted, up to two steps ahead of the last committed one. Only commit()
// makes sequences advance. Blocks go back to the pool once no submitted step refers to them.
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
  // `step_times`: the runner's. They are needed to keep latency targets and to forecast.
  Scheduler(const EngineOptions& options, const RunnerLimits& limits, std::optional<StepTimeModel> step_times = {});

  // From any thread. Refuses a request that can never fit, that is late or would be, or when the queue is full. Ok: it
  // has a place in the queue, and add() or withdraw() must follow.
  Status accept(const Request& request, TimePoint now);
  bool queue_is_full() const;  // from any thread
  // From any thread: gives the place back, instead of add().
  void withdraw(const Request& request);
  // From any thread. None: step times are not known. A request that can never fit has a forecast too.
  std::optional<Forecast> forecast(const Request& request, TimePoint now) const;
  void add(Request request);
  void cancel(const std::string& id);
  // Ends the requests that are past their deadlines.
  void expire(TimePoint now);
  // Ends every request with `error`.
  void fail_all(const Status& error);

  // Whether a mask that the next step could use is still being made.
  bool waits_for_mask() const;
  MaskMaker& mask_maker() { return *options_.mask_maker; }
  // The next step, valid until its commit. Null: nothing can be computed before the next commit.
  const StepPlan* schedule(TimePoint now);
  // Takes the result of the oldest step in flight.
  void commit(const StepResult& result, TimePoint now);

  bool has_work() const { return !sequences_.empty() || !in_flight_.empty(); }
  int64_t num_in_flight() const { return std::ssize(in_flight_); }
  EngineStats stats() const;
  int64_t latency_refusals() const { return latency_ ? latency_->refused() : 0; }  // from any thread
  // As measured at start and corrected since; null without latency targets.
  const StepTimeModel* step_times() const { return latency_ ? &latency_->step_times() : nullptr; }

  // Checks every invariant between sequences, steps in flight and blocks. A violation ends the process.
  void check_integrity() const;
  const std::deque<StepPlan>& in_flight() const { return in_flight_; }
  const BlockPool& pool() const { return pool_; }

 private:
  // Blocks whose sequence has given them up, while a submitted step still refers to them.
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
  // Sends the last event. The sequence is gone afterwards.
  void finish(Sequence& sequence, FinishReason reason, Status error = {}, RequestEvent event = {});

  const EngineOptions options_;
  const RunnerLimits limits_;
  const int64_t context_;  // the most tokens of a sequence
  PrefixIndex index_;
  BlockPool pool_;
  int64_t first_token_targets_ = 0;  // live requests with a target of their own for the first token

  const std::shared_ptr<RequestQueue> queue_;  // counts the requests accepted and never yet admitted
  int64_t last_number_ = 0;
  int64_t constrained_ = 0;                                           // live sequences that have a grammar
  std::unordered_map<int64_t, std::unique_ptr<Sequence>> sequences_;  // all live ones, by number
  std::unordered_map<std::string, Sequence*> by_id_;
  std::vector<Sequence*> running_;  // ordered by GoesFirst
  std::set<Sequence*, GoesFirst> waiting_;

  int64_t last_step_ = 0, committed_step_ = 0;
  int64_t first_of_work_ = 1;  // the first step since there was last no request to serve
  std::deque<StepPlan> in_flight_;
  StepPlan spare_plan_;  // empty; the next step takes its memory
  std::deque<Retired> retired_;
  EngineStats stats_;
  std::optional<LatencyBudget> latency_;
};

}  // namespace hearth
