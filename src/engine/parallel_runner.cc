// Each plan goes to all ranks; the first rank's results count, and the others must have drawn the same.
#include "engine/parallel_runner.h"

#include <barrier>
#include <cstring>

#include "comm/communicator.h"

namespace hearth {
namespace {

template <typename T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}
bool same_bits(const StepResult& a, const StepResult& b) {
  return same_bits(a.tokens, b.tokens) && same_bits(a.logprobs, b.logprobs) && same_bits(a.ranks, b.ranks) &&
         same_bits(a.top_tokens, b.top_tokens) && same_bits(a.top_logprobs, b.top_logprobs);
}

class ParallelRunner final : public Runner {
 public:
  explicit ParallelRunner(std::vector<std::unique_ptr<Runner>> ranks) : ranks_(std::move(ranks)) {}

  RunnerLimits limits() const override { return ranks_[0]->limits(); }

  Status prepare() override {
    return run_ranks(static_cast<int>(ranks_.size()), [&](int rank) { return runner(rank).prepare(); });
  }

  void submit(const StepPlan& plan) override {
    for (const auto& rank : ranks_) rank->queue_inputs(plan);
    for (const auto& rank : ranks_) rank->queue_step(plan);
    for (const auto& rank : ranks_) rank->queue_results(plan);
  }

  StepResult wait() override {
    StepResult out = ranks_[0]->wait();
    for (size_t rank = 1; rank < ranks_.size(); ++rank) {
      StepResult other = ranks_[rank]->wait();
      if (!out.status.ok()) continue;
      if (!other.status.ok()) {
        out.status = std::move(other.status);
      } else if (!same_bits(other, out)) {
        out.status =
            internal_error("rank ", rank, " drew other tokens than the first, or with other log-probabilities");
      }
    }
    return out;
  }

  std::vector<OpTime> profile(const StepPlan& plan, const std::function<void()>& ready) override {
    std::vector<OpTime> out;
    std::barrier all_ready(std::ssize(ranks_), [&ready]() noexcept { ready(); });
    (void)run_ranks(static_cast<int>(ranks_.size()), [&](int rank) {
      std::vector<OpTime> times = runner(rank).profile(plan, [&] { all_ready.arrive_and_wait(); });
      if (rank == 0) out = std::move(times);
      return Status();
    });
    return out;
  }

 private:
  Runner& runner(int rank) { return *ranks_[static_cast<size_t>(rank)]; }

  const std::vector<std::unique_ptr<Runner>> ranks_;
};

}  // namespace

std::unique_ptr<Runner> make_parallel_runner(std::vector<std::unique_ptr<Runner>> ranks) {
  HEARTH_CHECK(!ranks.empty());
  return std::make_unique<ParallelRunner>(std::move(ranks));
}

}  // namespace hearth
