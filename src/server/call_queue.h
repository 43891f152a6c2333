// CallQueue: the calls that wait for a worker, and how many are in work. Large ones have a line of their own, so that
// small ones never wait behind them. Any thread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <utility>

#include "base/clock.h"

namespace hearth {

template <typename T>
class CallQueue {
 public:
  explicit CallQueue(size_t capacity) : capacity_(capacity) {}

  // False when the queue is full or closed; the call is then untouched.
  bool try_push(std::unique_ptr<T>&& call, bool large) {
    {
      std::lock_guard lock(mutex_);
      if (closed_ || small_.size() + large_.size() >= capacity_) return false;
      (large ? large_ : small_).push_back(std::move(call));
    }
    changed_.notify_all();
    return true;
  }

  // Waits for a call, which is in work until done(); null once closed. One worker leaves large calls to the others,
  // and those take them first.
  std::unique_ptr<T> pop(bool takes_large) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return closed_ || !small_.empty() || (takes_large && !large_.empty()); });
    std::deque<std::unique_ptr<T>>& line = takes_large && !large_.empty() ? large_ : small_;
    if (line.empty()) return nullptr;
    std::unique_ptr<T> out = std::move(line.front());
    line.pop_front();
    ++in_work_;
    return out;
  }
  void done() {
    {
      std::lock_guard lock(mutex_);
      --in_work_;
    }
    changed_.notify_all();
  }

  // Whether nothing waits and nothing is in work any more, in time.
  bool wait_until_idle(Duration timeout) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, timeout, [&] { return in_work_ == 0 && small_.empty() && large_.empty(); });
  }

  // Takes no more calls, and returns those that wait.
  std::deque<std::unique_ptr<T>> close() {
    std::deque<std::unique_ptr<T>> left;
    {
      std::lock_guard lock(mutex_);
      closed_ = true;
      left.swap(small_);
      for (std::unique_ptr<T>& call : large_) left.push_back(std::move(call));
      large_.clear();
    }
    changed_.notify_all();
    return left;
  }

 private:
  const size_t capacity_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::unique_ptr<T>> small_, large_;
  int64_t in_work_ = 0;
  bool closed_ = false;
};

}  // namespace hearth
