// Communicator: what the ranks of a model that is spread over several backends say to each other. A rank is a thread of
// this process with a backend of its own; all ranks make the same calls in the same order.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "tensor/shard.h"
#include "tensor/tensor.h"

namespace hearth {

class Communicator {
 public:
  virtual ~Communicator() = default;
  Shard shard() const { return shard_; }
  int rank() const { return shard_.rank; }
  int size() const { return shard_.size; }

  // A call that cannot be completed fails on every rank, those of the others that wait and all later ones too: a rank
  // did not come within the limit, came with other shapes, or called fail(). Memory that was given to a call must
  // outlive what the other ranks make of it, also when the call failed.

  // `data` (f32, f16 or bf16) becomes its sum over the ranks: in f32, in the order of ranks, rounded once. Every rank
  // gets the same bits.
  virtual Status all_reduce(const Tensor& data) = 0;
  // `out` [rows, columns] becomes the ranks' parts [rows, columns of a rank] side by side, in the order of ranks.
  virtual Status all_gather(const Tensor& part, const Tensor& out) = 0;
  // This rank cannot go on, so that no other waits for it.
  virtual void fail(const Status& why) = 0;
  // What failed, or ok.
  virtual Status status() const = 0;

 protected:
  explicit Communicator(Shard shard) : shard_(shard) {}

 private:
  const Shard shard_;
};

// Ranks that read each other's memory where it lies, for backends in host memory. One a rank; `limit` is how long a
// rank waits for the others in a call.
std::vector<std::shared_ptr<Communicator>> make_host_communicators(int size, Duration limit);

// Runs f(rank) for every rank, on a thread each, and returns the failure of the lowest rank that has one.
Status run_ranks(int size, const std::function<Status(int rank)>& f);

}  // namespace hearth
