// The CPU's ops, a file each (embed.cc, norm.cc, ...). Plain and exact: this is what every kernel must compute.
#pragma once

#include <cstdlib>
#include <memory>
#include <vector>

#include "comm/communicator.h"
#include "cpu/thread_pool.h"
#include "ops/ops.h"
#include "ops/scratch.h"

namespace hearth {

// Memory that grows to its largest use and stays; what it held is lost when it grows.
class ScratchBuffer {
 public:
  float* reserve(int64_t floats);

 private:
  std::unique_ptr<float[], void (*)(void*)> data_{nullptr, std::free};
  int64_t size_ = 0;
};

class CpuOps final : public Ops {
 public:
  explicit CpuOps(int threads, Communicator* comm = nullptr);
  ThreadPool& pool() { return pool_; }
  int threads() const { return pool_.size(); }
  // What mlp and experts keep between their products.
  Scratch& scratch() { return reserved_; }
  static constexpr std::string_view kMlpProduct = "MLP intermediate", kExpertInput = "expert input",
                                    kExpertProduct = "expert intermediate";

  void begin(const BeginArgs&) override {}
  void embed(const EmbedArgs& args) override;
  void norm(const NormArgs& args) override;
  void linear(const LinearArgs& args) override;
  void mlp(const MlpArgs& args) override;
  void rope_append_kv(const RopeAppendKvArgs& args) override;
  void attention(const AttentionArgs& args) override;
  void route(const RouteArgs& args) override;
  void experts(const ExpertsArgs& args) override;
  // When the ranks have failed, these leave what they find.
  void all_reduce(const AllReduceArgs& args) override;
  void all_gather(const AllGatherArgs& args) override;
  void sample(const SampleArgs& args) override;

 private:
  friend class Products;
  ThreadPool pool_;
  Communicator* const comm_;
  ScratchBuffer step_;  // rows of a whole step in f32
  Scratch reserved_;
  struct ThreadScratch {
    ScratchBuffer rows, products, widened;
  };
  std::vector<ThreadScratch> scratch_;
};

}  // namespace hearth
