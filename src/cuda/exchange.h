// Exchange: all_reduce and all_gather among the ranks of a model on GPUs, in captured graphs (the method:
// kernels/exchange.cuh). What comm/'s Communicator is in host memory.
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "cuda/place.h"
#include "ops/ops.h"
#include "tensor/shard.h"

namespace hearth::cuda {

// Which way a sum takes; by its size where nothing is said. All ranks take the same.
enum class ExchangeWay { kBySize, kFew, kMany };

class ExchangeGroup;

// One rank's. All ranks make the same calls in the same order, each on a stream of its own place.
class Exchange {
 public:
  // One a rank, in the order of ranks; `limit` is how long a rank waits for the others in a call.
  static Result<std::vector<std::unique_ptr<Exchange>>> make(std::span<const std::shared_ptr<Place>> places,
                                                             Duration limit);
  ~Exchange();
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  Shard shard() const { return shard_; }
  bool one_gpu() const;  // ranks on shares of one
  // As Ops' functions of these names; a row is a multiple of 8 values, a rank's part of one a multiple of 4.
  void all_reduce(const AllReduceArgs& args, cudaStream_t stream, ExchangeWay way = ExchangeWay::kBySize) const;
  void all_gather(const AllGatherArgs& args, cudaStream_t stream, ExchangeWay way = ExchangeWay::kBySize) const;
  // Whether all_reduce_norm takes it: few rows, each of a token, of at most 8,192 channels, not quantized in groups.
  bool takes_norm(const AllReduceArgs& sum, const NormArgs& norm) const;
  void all_reduce_norm(const AllReduceArgs& sum, const NormArgs& norm, cudaStream_t stream) const;
  // This rank cannot go on: the others stop waiting for it.
  void fail() const;
  // What failed, or ok. Any rank's failure is that of all, and final; what ran since is worth nothing.
  Status status() const;

  // The most bytes of a rank's that go the way of few rows.
  static int64_t few_bytes(int ranks);

 private:
  Exchange(std::shared_ptr<ExchangeGroup> group, Shard shard) : group_(std::move(group)), shard_(shard) {}
  const std::shared_ptr<ExchangeGroup> group_;
  const Shard shard_;
};

}  // namespace hearth::cuda
