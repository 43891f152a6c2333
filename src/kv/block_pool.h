// Block pool: who uses which block of the KV cache. A block is used (has users), cached (no user, but published in the
// prefix index and kept until its room is needed) or blank.
#pragma once

#include <cstdint>
#include <vector>

#include "kv/prefix_index.h"

namespace hearth {

class BlockPool {
 public:
  // `index` forgets a block when it is evicted; null: nothing is cached.
  BlockPool(int64_t num_blocks, PrefixIndex* index);

  int64_t size() const { return static_cast<int64_t>(users_.size()); }
  // Blocks that allocate() can give: blank ones and, when those are out, the cached ones, least recently used first.
  int64_t available() const { return static_cast<int64_t>(blank_.size()) + num_cached_; }
  int64_t used() const { return size() - available(); }
  int64_t users(int32_t block) const { return users_[block]; }

  // A block with one user and unknown contents. Only while available() > 0.
  int32_t allocate();
  // One more user of a used or cached block.
  void acquire(int32_t block);
  void release(int32_t block);
  // A sequence's blocks, its last first: the end of a prefix is evicted before its beginning.
  void release_all(const std::vector<int32_t>& blocks);

  void check_integrity() const;

 private:
  void link_before(int32_t block, int32_t next);
  void unlink(int32_t block);

  PrefixIndex* const index_;
  std::vector<int64_t> users_;
  std::vector<int32_t> blank_;  // a stack
  // Cached blocks, a ring through its head at [size()]; the head's next is the least recently used.
  std::vector<int32_t> next_, previous_;
  int64_t num_cached_ = 0;
};

}  // namespace hearth
