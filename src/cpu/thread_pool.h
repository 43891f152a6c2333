// Fork-join over a fixed set of threads. Work is split statically; nothing an op computes may depend on the split.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

namespace hearth {

class ThreadPool {
 public:
  // The caller is thread 0; `threads` 0 takes every core this process may use.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return size_; }

  // Calls f(begin, end, thread) on contiguous shares of [0, items), one a thread, and returns when all are done. One
  // caller at a time; a single item runs on the caller without waking anybody.
  template <typename F>
  void run(int64_t items, F&& f) {
    if (items <= 0) return;
    if (items == 1 || size_ == 1) return f(int64_t{0}, items, 0);
    job_ = {[](void* context, int64_t begin, int64_t end, int thread) {
              (*static_cast<std::remove_reference_t<F>*>(context))(begin, end, thread);
            },
            const_cast<void*>(static_cast<const void*>(std::addressof(f))), items};
    fork_join();
  }

 private:
  struct Job {
    void (*call)(void* context, int64_t begin, int64_t end, int thread) = nullptr;
    void* context = nullptr;
    int64_t items = 0;
  };
  void fork_join();
  void work(int thread);
  void run_share(int thread) const;

  const int size_;
  Job job_;
  bool stop_ = false;
  alignas(64) std::atomic<uint32_t> epoch_{0};
  alignas(64) std::atomic<uint32_t> unfinished_{0};
  std::vector<std::thread> workers_;
};

}  // namespace hearth
