// Ranks in one memory: a rank posts where its tensor lies, and when all have, each does its share for everybody.
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>

#include "comm/communicator.h"

namespace hearth {
namespace {

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Where the ranks of a group meet.
class Group {
 public:
  Group(int size, Duration limit) : size_(size), limit_(limit), posts_(static_cast<size_t>(size)) {}

  int size() const { return size_; }
  Tensor& post(int rank) { return posts_[static_cast<size_t>(rank)]; }

  // Returns when every rank has come. What a rank wrote before is then seen by all.
  Status meet(int rank) {
    uint32_t round;
    {
      std::lock_guard lock(mutex_);
      if (!failure_.ok()) return failure_;
      round = round_.load(std::memory_order_relaxed);
      came_ |= uint64_t{1} << rank;
      if (++arrived_ == size_) {
        arrived_ = 0;
        came_ = 0;
        round_.store(round + 1, std::memory_order_release);
        changed_.notify_all();
        return {};
      }
    }
    // Ranks are mostly close together; a sleep and a wake cost more than that.
    constexpr int kSpins = 1000;
    for (int spin = 0; spin < kSpins; ++spin) {
      if (round_.load(std::memory_order_acquire) != round) return {};
      pause();
    }
    std::unique_lock lock(mutex_);
    const auto over = [&] { return round_.load(std::memory_order_acquire) != round || !failure_.ok(); };
    if (!changed_.wait_for(lock, limit_, over)) set_failure(late());
    return round_.load(std::memory_order_acquire) != round ? Status() : failure_;
  }

  void fail(const Status& why) {
    std::lock_guard lock(mutex_);
    set_failure(why);
  }
  Status failure() const {
    std::lock_guard lock(mutex_);
    return failure_;
  }

 private:
  // The first one is the cause.
  void set_failure(const Status& why) {
    if (failure_.ok()) failure_ = why;
    changed_.notify_all();
  }
  Status late() const {
    int rank = 0;
    while (came_ >> rank & 1) ++rank;
    return internal_error("rank ", rank, " of ", size_, " did not come to the others within ", seconds(limit_), " s");
  }

  const int size_;
  const Duration limit_;
  std::vector<Tensor> posts_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Status failure_;
  int arrived_ = 0;
  uint64_t came_ = 0;  // a bit a rank
  std::atomic<uint32_t> round_{0};
};

void widen(const float* in, float* out, int64_t n) { std::copy_n(in, n, out); }
void narrow(const float* in, float* out, int64_t n) { std::copy_n(in, n, out); }
template <typename T>
void widen(const T* in, float* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = to_float(in[i]);
}
void narrow(const float* in, F16* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = to_f16(in[i]);
}
void narrow(const float* in, BF16* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = to_bf16(in[i]);
}

class HostCommunicator final : public Communicator {
 public:
  HostCommunicator(Shard shard, std::shared_ptr<Group> group) : Communicator(shard), group_(std::move(group)) {}

  // A rank sums its share of the elements, for all.
  Status all_reduce(const Tensor& data) override {
    group_->post(rank()) = data;
    HEARTH_TRY(group_->meet(rank()));
    for (int r = 0; r < size(); ++r) {
      const Tensor& other = group_->post(r);
      if (other.dtype != data.dtype || other.shape != data.shape) return refuse("all_reduce", r);
    }
    switch (data.dtype) {
      case DType::kF32: sum_share<float>(data); break;
      case DType::kF16: sum_share<F16>(data); break;
      case DType::kBF16: sum_share<BF16>(data); break;
      default: HEARTH_CHECK(false);
    }
    return group_->meet(rank());
  }

  // A rank copies everybody's part into its own `out`.
  Status all_gather(const Tensor& part, const Tensor& out) override {
    HEARTH_CHECK(part.shape.rank() == 2 && out.shape.rank() == 2);
    group_->post(rank()) = part;
    HEARTH_TRY(group_->meet(rank()));
    int64_t columns = 0;
    for (int r = 0; r < size(); ++r) {
      const Tensor& other = group_->post(r);
      columns += other.dim(1);
      if (other.dtype != out.dtype || other.dim(0) != out.dim(0)) return refuse("all_gather", r);
    }
    if (columns != out.dim(1)) return refuse("all_gather", rank());
    const int64_t element = dtype_size(out.dtype);
    auto* to = static_cast<char*>(out.data);
    for (int r = 0; r < size(); ++r) {
      const Tensor& other = group_->post(r);
      const auto* from = static_cast<const char*>(other.data);
      const int64_t bytes = other.dim(1) * element;
      for (int64_t row = 0; row < out.dim(0); ++row) {
        std::memcpy(to + row * columns * element, from + row * bytes, static_cast<size_t>(bytes));
      }
      to += bytes;
    }
    return group_->meet(rank());
  }

  void fail(const Status& why) override { group_->fail(why); }
  Status status() const override { return group_->failure(); }

 private:
  template <typename T>
  void sum_share(const Tensor& data) {
    constexpr int64_t kChunk = 512;
    const int64_t elements = data.shape.elements(), end = elements * (rank() + 1) / size();
    for (int64_t i = elements * rank() / size(); i < end; i += kChunk) {
      const int64_t n = std::min(kChunk, end - i);
      float sum[kChunk], term[kChunk];
      widen(group_->post(0).as<T>() + i, sum, n);
      for (int r = 1; r < size(); ++r) {
        widen(group_->post(r).as<T>() + i, term, n);
        for (int64_t j = 0; j < n; ++j) sum[j] += term[j];
      }
      for (int r = 0; r < size(); ++r) narrow(sum, group_->post(r).as<T>() + i, n);
    }
  }

  Status refuse(const char* call, int r) {
    group_->fail(internal_error(call, ": rank ", r, " came with another shape or type"));
    return group_->failure();
  }

  const std::shared_ptr<Group> group_;
};

}  // namespace

std::vector<std::shared_ptr<Communicator>> make_host_communicators(int size, Duration limit) {
  HEARTH_CHECK(size >= 1 && size <= 64);
  const auto group = std::make_shared<Group>(size, limit);
  std::vector<std::shared_ptr<Communicator>> out;
  for (int rank = 0; rank < size; ++rank) {
    out.push_back(std::make_shared<HostCommunicator>(Shard{rank, size}, group));
  }
  return out;
}

Status run_ranks(int size, const std::function<Status(int rank)>& f) {
  std::vector<Status> results(static_cast<size_t>(size));
  {
    std::vector<std::jthread> threads;
    for (int rank = 1; rank < size; ++rank) {
      threads.emplace_back([&, rank] { results[static_cast<size_t>(rank)] = f(rank); });
    }
    results[0] = f(0);
  }
  for (Status& result : results) {
    if (!result.ok()) return std::move(result);
  }
  return {};
}

}  // namespace hearth
