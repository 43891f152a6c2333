// BackgroundRunner: runs another runner's steps on a thread, for backends whose ops run on the calling thread. The
// engine then schedules, and hands out tokens, while a step runs, as it does beside a GPU.
#pragma once

#include <memory>
#include <thread>

#include "base/bounded_queue.h"
#include "engine/runner.h"

namespace hearth {

class BackgroundRunner final : public Runner {
 public:
  explicit BackgroundRunner(std::unique_ptr<Runner> runner)
      : runner_(std::move(runner)), thread_([this] {
          while (const auto plan = plans_.pop()) {
            runner_->submit(**plan);
            HEARTH_CHECK(results_.try_push(runner_->wait()));
          }
        }) {}
  ~BackgroundRunner() override {
    plans_.close();
    thread_.join();
  }

  RunnerLimits limits() const override { return runner_->limits(); }
  // These two while no step is in flight: the thread is idle.
  Status prepare() override { return runner_->prepare(); }
  std::vector<OpTime> profile(const StepPlan& plan, const std::function<void()>& ready) override {
    return runner_->profile(plan, ready);
  }
  void submit(const StepPlan& plan) override { HEARTH_CHECK(plans_.try_push(&plan)); }
  StepResult wait() override { return *results_.pop(); }

 private:
  static constexpr size_t kInFlight = 2;
  std::unique_ptr<Runner> runner_;
  BoundedQueue<const StepPlan*> plans_{kInFlight};
  BoundedQueue<StepResult> results_{kInFlight};
  std::thread thread_;
};

}  // namespace hearth
