// Block pool: a stack of blank blocks and a ring of cached ones.
#include "kv/block_pool.h"

#include "base/check.h"

namespace hearth {

BlockPool::BlockPool(int64_t num_blocks, PrefixIndex* index)
    : index_(index), users_(num_blocks), next_(num_blocks + 1), previous_(num_blocks + 1) {
  blank_.reserve(num_blocks);
  for (int64_t i = num_blocks; i-- > 0;) blank_.push_back(static_cast<int32_t>(i));
  next_[num_blocks] = previous_[num_blocks] = static_cast<int32_t>(num_blocks);
}

void BlockPool::link_before(int32_t block, int32_t next) {
  next_[block] = next;
  previous_[block] = previous_[next];
  next_[previous_[block]] = block;
  previous_[next] = block;
  ++num_cached_;
}

void BlockPool::unlink(int32_t block) {
  next_[previous_[block]] = next_[block];
  previous_[next_[block]] = previous_[block];
  --num_cached_;
}

int32_t BlockPool::allocate() {
  HEARTH_CHECK(available() > 0);
  int32_t block;
  if (!blank_.empty()) {
    block = blank_.back();
    blank_.pop_back();
  } else {
    block = next_[size()];
    unlink(block);
    index_->erase(block);
  }
  HEARTH_CHECK(users_[block] == 0);
  users_[block] = 1;
  return block;
}

void BlockPool::acquire(int32_t block) {
  if (users_[block]++ == 0) {
    HEARTH_CHECK(index_ != nullptr && index_->contains(block));
    unlink(block);
  }
}

void BlockPool::release(int32_t block) {
  HEARTH_CHECK(users_[block] > 0);
  if (--users_[block] > 0) return;
  if (index_ != nullptr && index_->contains(block)) {
    link_before(block, static_cast<int32_t>(size()));
  } else {
    blank_.push_back(block);
  }
}

void BlockPool::release_all(const std::vector<int32_t>& blocks) {
  for (size_t i = blocks.size(); i-- > 0;) release(blocks[i]);
}

void BlockPool::check_integrity() const {
  std::vector<bool> seen(users_.size());
  auto visit = [&](int32_t block, bool cached) {
    HEARTH_CHECK(!seen[block] && users_[block] == 0);
    HEARTH_CHECK((index_ != nullptr && index_->contains(block)) == cached);
    seen[block] = true;
  };
  for (int32_t block : blank_) visit(block, false);
  int64_t cached = 0;
  for (int32_t block = next_[size()]; block != size(); block = next_[block], ++cached) {
    HEARTH_CHECK(previous_[next_[block]] == block);
    visit(block, true);
  }
  HEARTH_CHECK(cached == num_cached_);
  for (size_t i = 0; i < users_.size(); ++i) HEARTH_CHECK(seen[i] == (users_[i] == 0));
  if (index_ != nullptr) index_->check_integrity();
}

}  // namespace hearth
