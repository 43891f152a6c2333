// SimulatedRunner: a runner without a device. Its KV cache holds tokens, its model is FakeModel, and its time is a
// manual clock that StepTime moves. A step's reads and writes happen at its wait(), in the order of submission.
#pragma once

#include <deque>
#include <random>
#include <vector>

#include "engine/runner.h"
#include "sim/fake_model.h"
#include "sim/step_time.h"

namespace hearth {

class SimulatedRunner final : public Runner {
 public:
  struct Options {
    RunnerLimits limits;
    FakeModel model;
    StepTime step_time;
    int64_t fail_at_step = 0;  // > 0: from this step on the device is gone
    bool time_only = false;    // no model: every token drawn is 0
  };
  SimulatedRunner(const Options& options, ManualClock& clock);

  RunnerLimits limits() const override { return options_.limits; }
  void submit(const StepPlan& plan) override;
  StepResult wait() override;
  void fail() { failed_ = true; }  // from the step on that ends next

 private:
  // What a token's keys and values stand for.
  struct Slot {
    int32_t token = -1;
    int32_t position = -1;
    bool generated = false;
  };
  struct Submitted {
    const StepPlan* plan;
    TimePoint done;
    RunTime time;
  };

  void run(const StepPlan& plan, const StepSequence& part, StepResult& result);

  const Options options_;
  ManualClock& clock_;
  std::vector<Slot> slots_;  // [num_blocks, block_size]
  std::deque<Submitted> in_flight_;
  TimePoint busy_until_{0};
  std::mt19937_64 noise_;
  std::vector<int32_t> previous_tokens_;
  bool failed_ = false;
};

}  // namespace hearth
