// MaskMaker: makes the masks of sequences with a grammar, on its own threads. NextTokens: one sequence's part of it.
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

// What a sequence with a grammar may draw next. The maker owns it from MaskMaker::ask until ready(), the scheduler
// otherwise.
class NextTokens {
 public:
  // `ends`: tokens that end the sequence. `jumps`: whether forced tokens may be appended without a draw.
  NextTokens(std::unique_ptr<Constraint> constraint, int64_t vocab_size, std::vector<int32_t> ends, bool jumps)
      : constraint_(std::move(constraint)), vocab_size_(vocab_size), ends_(std::move(ends)), jumps_(jumps) {}

  bool ready() const { return ready_.load(std::memory_order_acquire); }

  using Mask = std::shared_ptr<const std::vector<int32_t>>;
  Mask mask;                    // null: any token. Equal to the previous mask: the same pointer
  std::vector<int32_t> forced;  // tokens appended without a draw, before the draw that `mask` is for
  bool must_end = false;        // the mask has only tokens that end the sequence
  bool dead = false;            // no token is allowed, or the drawn one was not: a fault of the grammar
  bool steady = false;          // equal to the previous mask, as in free text and strings: the next may be too

 private:
  friend class MaskMaker;
  // Takes one more token (none at the beginning) and sets the fields above. Any thread, one at a time.
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
  // 0 threads: masks are made at once, on the caller's thread.
  explicit MaskMaker(int threads = 0);
  virtual ~MaskMaker();

  // begin: for a new sequence. ask: after each token that it drew. Neither waits. A sequence has at most one job, so
  // the live requests bound the number of jobs.
  void begin(std::shared_ptr<NextTokens> next) { ask(std::move(next), NextTokens::kNone); }
  virtual void ask(std::shared_ptr<NextTokens> next, int32_t token);
  // Returns when no job is left, or after `timeout`.
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
