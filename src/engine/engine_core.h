// EngineCore: scheduler and runner in one loop body, without a thread. The engine's thread drives it, and so does the
// simulation.
#pragma once

#include <algorithm>
#include <memory>

#include "engine/scheduler.h"
#include "engine/step_pacer.h"
#include "engine/step_time_probe.h"
#include "engine/step_trace.h"

namespace hearth {

class EngineCore {
 public:
  EngineCore(std::unique_ptr<Runner> runner, const EngineOptions& options, const Clock& clock)
      : runner_(std::move(runner)),
        clock_(clock),
        trace_(options.trace),
        kv_events_(options.kv_events),
        scheduler_(options, runner_->limits(), step_times(options)) {}
  // The runner reads a plan until its wait(), so every step in flight is waited for.
  ~EngineCore() {
    // Fewer than the scheduler's where memory gave out in the middle of a turn.
    for (int64_t i = std::min(steps_with_runner_, scheduler_.num_in_flight()); i > 0; --i) runner_->wait();
  }

  // How long to wait before the next turn, so that requests that arrive while a step runs are in the very next one.
  Duration patience() const {
    if (scheduler_.num_in_flight() != 1) return Duration::zero();
    const auto most = std::chrono::duration<double>(pacer_.patience(scheduler_.in_flight().front().num_tokens()));
    return std::max(running_since_ + std::chrono::duration_cast<Duration>(most) - clock_.now(), Duration::zero());
  }

  // One turn: schedules and submits the next step. With two in flight, or nothing to submit, it then waits for the
  // oldest and commits it. So the next step is queued before one ends. Not ok: the device failed, every request has
  // been answered, and the core must not be used again.
  Status step() {
    const TimePoint begin = clock_.now();
    scheduler_.expire(begin);
    wait_for_masks();
    const StepPlan* plan = scheduler_.schedule(begin);
    if (plan == nullptr && scheduler_.num_in_flight() == 0 && scheduler_.waits_for_mask()) {
      scheduler_.mask_maker().wait(std::chrono::milliseconds(100));  // nothing else to do; cancels are looked at again
      return {};
    }
    if (plan != nullptr) {
      runner_->submit(*plan);
      ++steps_with_runner_;
    }
    const TimePoint submitted = traced("schedule", begin);
    if (plan != nullptr && scheduler_.num_in_flight() == 1) running_since_ = submitted;
    if (scheduler_.num_in_flight() == 0 || (plan != nullptr && scheduler_.num_in_flight() < 2)) return {};
    --steps_with_runner_;  // whatever comes of it, memory giving out among that
    const StepResult result = runner_->wait();
    const TimePoint done = traced("wait", submitted);
    const StepPlan& ended = scheduler_.in_flight().front();
    if (trace_ && result.device_time) trace_->device(ended, *result.device_time, done);
    // With nothing to wait for, it had ended before the next was there.
    constexpr auto kAtOnce = std::chrono::microseconds(100);
    const bool late = plan != nullptr && done - submitted < kAtOnce;
    pacer_.observe(ended.num_tokens(), seconds(done - running_since_), late);
    running_since_ = done;  // of the next, if there is one
    wait_for_masks();       // those of draws that came before their masks
    scheduler_.commit(result, done);
    if (kv_events_) kv_events_->flush();
    traced("commit", done);
    return result.status;
  }

  Scheduler& scheduler() { return scheduler_; }
  const Scheduler& scheduler() const { return scheduler_; }
  Runner& runner() { return *runner_; }

 private:
  // A sequence whose mask comes just too late for a step loses that whole step, so the masks get a moment. If the wait
  // was in vain, the next one is shorter.
  void wait_for_masks() {
    constexpr Duration kMost = std::chrono::milliseconds(1);
    if (scheduler_.waits_for_mask()) scheduler_.mask_maker().wait(mask_patience_);
    mask_patience_ = scheduler_.waits_for_mask() ? mask_patience_ / 2 : kMost;
  }

  // Now; the trace has what went on since `begin`.
  TimePoint traced(std::string_view what, TimePoint begin) {
    const TimePoint now = clock_.now();
    if (trace_) trace_->host(what, begin, now);
    return now;
  }

  std::optional<StepTimeModel> step_times(const EngineOptions& options) {
    if (options.step_times || !options.keeps_targets()) return options.step_times;
    return measure_step_times(*runner_, clock_, options.max_num_batched_tokens);
  }

  std::unique_ptr<Runner> runner_;
  const Clock& clock_;
  const std::shared_ptr<StepTrace> trace_;        // or none
  const std::shared_ptr<KvEventSink> kv_events_;  // or none
  Scheduler scheduler_;
  StepPacer pacer_;
  int64_t steps_with_runner_ = 0;
  Duration mask_patience_ = std::chrono::milliseconds(1);
  TimePoint running_since_{};  // of the oldest step in flight
};

}  // namespace hearth
