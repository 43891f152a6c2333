// A queue and a few threads.
#include "engine/mask_maker.h"

#include <algorithm>
#include <new>
#include <utility>

namespace hearth {

void NextTokens::advance(int32_t token) {
  const Mask before = std::exchange(mask, nullptr);
  const bool had_to_end = std::exchange(must_end, false);
  forced.clear();
  steady = false;
  if (token != kNone) {
    dead = !constraint_->accept(token);
    // Whoever drew an end token has ended, and what it may draw next is nobody's.
    if (dead) return;
    if (jumps_) forced = constraint_->jump_ahead();
  }
  auto bits = std::make_shared<std::vector<int32_t>>(static_cast<size_t>(Constraint::mask_words(vocab_size_)));
  if (!constraint_->fill_mask(*bits)) {
    steady = token != kNone && before == nullptr;
    return;
  }
  if (before != nullptr && *before == *bits) {
    mask = before;
    must_end = had_to_end;
    steady = true;
    return;
  }
  auto rest = *bits;
  for (const int32_t end : ends_) rest[static_cast<size_t>(end / 32)] &= ~static_cast<int32_t>(1u << (end % 32));
  const auto empty = [](const std::vector<int32_t>& words) {
    return std::ranges::all_of(words, [](int32_t word) { return word == 0; });
  };
  must_end = empty(rest);
  dead = must_end && empty(*bits);
  mask = std::move(bits);
}

MaskMaker::MaskMaker(int threads) {
  for (int i = 0; i < threads; ++i) {
    threads_.emplace_back([this] { run(); });
  }
}

MaskMaker::~MaskMaker() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void MaskMaker::prepare(NextTokens& next, int32_t token) {
  next.token_ = token;
  next.ready_.store(false, std::memory_order_relaxed);
}

void MaskMaker::make(NextTokens& next) {
  try {
    next.advance(next.token_);
  } catch (const std::bad_alloc&) {
    next.dead = true;  // its request ends, and no other
  }
  next.ready_.store(true, std::memory_order_release);
}

void MaskMaker::ask(std::shared_ptr<NextTokens> next, int32_t token) {
  prepare(*next, token);
  if (threads_.empty()) return make(*next);
  {
    std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(next));
    ++unfinished_;
  }
  work_.notify_one();
}

void MaskMaker::wait(Duration timeout) {
  std::unique_lock lock(mutex_);
  idle_.wait_for(lock, timeout, [this] { return unfinished_ == 0; });
}

void MaskMaker::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    work_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
    if (stopping_) return;
    const std::shared_ptr<NextTokens> next = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    make(*next);
    lock.lock();
    if (--unfinished_ == 0) idle_.notify_all();
  }
}

}  // namespace hearth
