// PacedRunner: a runner without a device for measuring what stands around it. Steps end at a steady pace of the real
// clock, and every row draws the token of its step's turn.
#pragma once

#include <atomic>
#include <deque>
#include <span>
#include <thread>

#include "engine/runner.h"

namespace hearth {

class PacedRunner final : public Runner {
 public:
  // `ended[i % ended.size()]` is set to when step i ended (steady clock, ns), before its result is handed out. Its rows
  // draw tokens[i % tokens.size()].
  PacedRunner(const RunnerLimits& limits, Duration pace, std::vector<int32_t> tokens,
              std::span<std::atomic<int64_t>> ended)
      : limits_(limits), pace_(pace), tokens_(std::move(tokens)), ended_(ended) {}

  RunnerLimits limits() const override { return limits_; }
  void submit(const StepPlan& plan) override {
    const auto now = std::chrono::steady_clock::now();
    busy_until_ = std::max(busy_until_, now) + pace_;
    in_flight_.push_back({plan.num_rows(), busy_until_});
  }
  StepResult wait() override {
    const auto [rows, done] = in_flight_.front();
    in_flight_.pop_front();
    std::this_thread::sleep_until(done);
    const auto at = static_cast<size_t>(step_++);
    StepResult result;
    result.tokens.assign(static_cast<size_t>(rows), tokens_[at % tokens_.size()]);
    result.logprobs.resize(static_cast<size_t>(rows));
    result.ranks.resize(static_cast<size_t>(rows));
    result.top_tokens.resize(static_cast<size_t>(rows * limits_.max_logprobs));
    result.top_logprobs.resize(static_cast<size_t>(rows * limits_.max_logprobs));
    ended_[at % ended_.size()] = std::chrono::steady_clock::now().time_since_epoch().count();
    return result;
  }

 private:
  struct Step {
    int64_t rows;
    std::chrono::steady_clock::time_point done;
  };
  const RunnerLimits limits_;
  const Duration pace_;
  const std::vector<int32_t> tokens_;
  const std::span<std::atomic<int64_t>> ended_;
  std::deque<Step> in_flight_;
  std::chrono::steady_clock::time_point busy_until_{};
  int64_t step_ = 0;
};

}  // namespace hearth
