// Workers wait for a new epoch, spinning for some tens of microseconds (the gap between two ops) before they sleep.
#include "cpu/thread_pool.h"

#include <immintrin.h>

#include <algorithm>

namespace hearth {
namespace {

template <typename Changed>
void await(std::atomic<uint32_t>& value, Changed changed) {
  for (int spin = 0; spin < 1000; ++spin) {
    if (changed(value.load(std::memory_order_acquire))) return;
    _mm_pause();
  }
  for (uint32_t seen; !changed(seen = value.load(std::memory_order_acquire));) value.wait(seen);
}

}  // namespace

ThreadPool::ThreadPool(int threads)
    : size_(threads > 0 ? threads : std::max(1, static_cast<int>(std::thread::hardware_concurrency()))) {
  for (int i = 1; i < size_; ++i) workers_.emplace_back([this, i] { work(i); });
}

ThreadPool::~ThreadPool() {
  stop_ = true;
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::fork_join() {
  unfinished_.store(static_cast<uint32_t>(size_ - 1), std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  run_share(0);
  await(unfinished_, [](uint32_t n) { return n == 0; });
}

void ThreadPool::work(int thread) {
  for (uint32_t epoch = 0;; ++epoch) {
    await(epoch_, [epoch](uint32_t now) { return now != epoch; });
    if (stop_) return;
    run_share(thread);
    if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished_.notify_one();
  }
}

void ThreadPool::run_share(int thread) const {
  const int64_t begin = job_.items * thread / size_, end = job_.items * (thread + 1) / size_;
  if (begin < end) job_.call(job_.context, begin, end, thread);
}

}  // namespace hearth
