// MaskMaker: makes the masks of constrained sequences beside the steps; and NextTokens, a sequence's share of it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "grammar/constraint.h"

namespace hearth {

// What a constrained sequence may draw next. Between MaskMaker::ask and ready() it is the maker's, else the
// scheduler's.
class NextTokens {
 public:
  // `ends`: tokens that end the sequence. `jumps`: whether tokens may be taken that were not drawn.
  NextTokens(std::unique_ptr<Constraint> constraint, int64_t vocab_size, std::vector<int32_t> ends, bool jumps)
      : constraint_(std::move(constraint)), vocab_size_(vocab_size), ends_(std::move(ends)), jumps_(jumps) {}

  bool ready() const { return ready_.load(std::memory_order_acquire); }

  using Mask = std::shared_ptr<const std::vector<int32_t>>;
  Mask mask;                    // null: any token may come; equal to the one before it: the same pointer
  std::vector<int32_t> forced;  // come before it, without being drawn
  bool must_end = false;        // the mask has only tokens that end the sequence
  bool dead = false;            // nothing may come, or what was drawn was not allowed: the grammar's fault
  bool steady = false;          // the mask is the one before it, as in free text and strings: the next may be too

 private:
  friend class MaskMaker;
  // One more token, or none at the beginning; then the fields above. Any thread, one at a time.
  void advance(int32_t token);

  const std::unique_ptr<Constraint> constraint_;
  const int64_t vocab_size_;
  const std::vector<int32_t> ends_;
  const bool jumps_;
  std::atomic<bool> ready_ = false;
  int32_t token_ = kNone;
  static constexpr int32_t kNone = -1;
};

class MaskMaker {
 public:
  // Without threads: at once, on the caller's.
  explicit MaskMaker(int threads = 0);
  virtual ~MaskMaker();

  // For a sequence that begins, and after each token that it drew. Never waits. There is at most one job a sequence, so
  // what waits is bounded by the live requests.
  void begin(std::shared_ptr<NextTokens> next) { ask(std::move(next), NextTokens::kNone); }
  virtual void ask(std::shared_ptr<NextTokens> next, int32_t token);
  // Returns when nothing is being made, or the time is up.
  virtual void wait(Duration timeout);

 protected:
  static void make(NextTokens& next);
  static void prepare(NextTokens& next, int32_t token);

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable work_, idle_;
  std::deque<std::shared_ptr<NextTokens>> jobs_;
  int64_t unfinished_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace hearth
