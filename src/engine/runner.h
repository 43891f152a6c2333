// Runner: runs step plans on a device and owns its buffers. The real one is model_runner.h, the simulated one is in
// sim/.
#pragma once

#include <functional>
#include <vector>

#include "engine/step_plan.h"
#include "ops/backend.h"

namespace hearth {

// The sizes of a runner's fixed buffers; no plan may exceed them.
struct RunnerLimits {
  int64_t num_blocks = 0;
  int64_t block_size = kBlockSize;
  int64_t max_model_len = 0;
  int64_t vocab_size = 0;
  int64_t max_tokens = 0;     // in a step
  int64_t max_sequences = 0;  // in a step
  int64_t max_logits = 0;     // rows in a step; those beyond max_sequences are for prompt log-probabilities
  int64_t max_logprobs = 0;   // most likely tokens reported a row
  int64_t max_edits = 0;      // logit edits in a step; at least vocab_size, so that any row fits
  // The most StepPlan::prompt_blocks() of a step. A prompt of max_model_len always fits. 0: no limit.
  int64_t max_prompt_blocks = 0;

  bool hold_prompts(const StepPlan& plan) const {
    return max_prompt_blocks == 0 || plan.prompt_blocks(block_size) <= max_prompt_blocks;
  }
};

class Runner {
 public:
  virtual ~Runner() = default;
  virtual RunnerLimits limits() const = 0;
  // Does once, at start, work that would slow the first steps.
  virtual Status prepare() { return {}; }
  // Queues a step after those submitted before. At most two are in flight. The plan must live until its wait().
  virtual void submit(const StepPlan& plan) = 0;
  // What submit() is, for runners whose steps wait for each other on a device: first the inputs of all are queued, then
  // the steps, then the results' way back. (Copies of different streams may share a queue, where one that waits for its
  // step holds up those behind it.)
  virtual void queue_inputs(const StepPlan& plan) { (void)plan; }
  virtual void queue_step(const StepPlan& plan) { submit(plan); }
  virtual void queue_results(const StepPlan& plan) { (void)plan; }
  // The result of the oldest step in flight.
  virtual StepResult wait() = 0;
  // Times each op of a step (Backend::profile). No step may be in flight. Empty: the backend cannot measure ops.
  // `ready` is called when nothing is left but to run.
  virtual std::vector<OpTime> profile(
      const StepPlan& plan, const std::function<void()>& ready = [] {}) {
    (void)plan;
    ready();
    return {};
  }
};

}  // namespace hearth
