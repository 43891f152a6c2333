// Each plan goes to all ranks; the first rank's results count, and the others must have drawn the same.
#include "engine/parallel_runner.h"

#include "comm/communicator.h"

namespace hearth {
namespace {

class ParallelRunner final : public Runner {
 public:
  explicit ParallelRunner(std::vector<std::unique_ptr<Runner>> ranks) : ranks_(std::move(ranks)) {}

  RunnerLimits limits() const override { return ranks_[0]->limits(); }

  Status prepare() override {
    return run_ranks(static_cast<int>(ranks_.size()), [&](int rank) { return runner(rank).prepare(); });
  }

  void submit(const StepPlan& plan) override {
    for (const auto& rank : ranks_) rank->submit(plan);
  }

  StepResult wait() override {
    StepResult out = ranks_[0]->wait();
    for (size_t rank = 1; rank < ranks_.size(); ++rank) {
      StepResult other = ranks_[rank]->wait();
      if (!out.status.ok()) continue;
      if (!other.status.ok()) {
        out.status = std::move(other.status);
      } else if (other.tokens != out.tokens) {
        out.status = internal_error("rank ", rank, " drew other tokens than the first");
      }
    }
    return out;
  }

  std::vector<OpTime> profile(const StepPlan& plan) override {
    std::vector<OpTime> out;
    (void)run_ranks(static_cast<int>(ranks_.size()), [&](int rank) {
      std::vector<OpTime> times = runner(rank).profile(plan);
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
