// Prefix index: finds the block that already holds the keys and values of given tokens after a given prefix.
//
// A published block is keyed by its predecessor in the chain, its tokens, and how many of them were computed as prompt
// (prompt tokens come first in a sequence, so a count says which they are): prompt and generated tokens go through
// different sums in attention, and results must not depend on what the cache held. A hash only finds candidates; the
// whole key is compared, so a collision costs time, never a wrong answer. Predecessors are named by links, which are
// never used twice: a block whose predecessor was evicted can no longer be reached, whatever takes the block's place.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "kv/kv_events.h"

namespace hearth {

enum class PrefixMode {
  kExact,  // what was computed as prompt and what was generated are kept apart
  kFast,   // either serves for the other: more hits, results within rounding
};

class PrefixIndex {
 public:
  using Link = uint64_t;
  static constexpr Link kRoot = 0;  // the empty prefix
  // The empty prefix of those who share a salt: they alone find what they cached, or learn by its speed that it is
  // there. A hash of 63 bits, apart from all other links.
  static Link root_of(std::string_view salt);

  struct Hit {
    int32_t block;
    Link link;
  };

  // `events` outlives the index, and hears of the blocks that any prompt can find: not of those behind a salt, nor, in
  // kExact mode, of those with generated tokens.
  PrefixIndex(int64_t num_blocks, int64_t block_size, PrefixMode mode, KvEventSink* events = nullptr);

  // The block with exactly these `block_size` tokens after the prefix `before`.
  std::optional<Hit> find(Link before, std::span<const int32_t> tokens, int64_t prompt_tokens) const;

  // How many of the prompt's first tokens are in blocks that it would find here. From any thread, unlike all else.
  int64_t cached(Link root, std::span<const int32_t> prompt) const;

  // Makes a full block findable, and returns its link. Where its like is published already, that one's link is
  // returned and `block` stays private.
  Link publish(int32_t block, Link before, std::span<const int32_t> tokens, int64_t prompt_tokens);

  bool contains(int32_t block) const { return entries_[block].link != kRoot; }
  void erase(int32_t block);

  void check_integrity() const;

 private:
  struct Entry {
    Link link = kRoot;  // kRoot: not published
    Link before = kRoot;
    int64_t prompt_tokens = 0;
    uint64_t hash = 0;
  };

  // In kFast mode the count is no part of the key.
  int64_t key_count(int64_t prompt_tokens) const { return mode_ == PrefixMode::kExact ? prompt_tokens : 0; }
  uint64_t hash(Link before, std::span<const int32_t> tokens, int64_t count) const;
  std::span<const int32_t> tokens_of(int32_t block) const;

  const int64_t block_size_;
  const PrefixMode mode_;
  Link last_link_ = kRoot;
  std::vector<Entry> entries_;   // by block
  std::vector<int32_t> tokens_;  // [num_blocks, block_size]
  std::unordered_multimap<uint64_t, int32_t> by_hash_;
  KvEventSink* const events_;
  std::unordered_set<Link> told_;  // of these blocks events_ heard
  // Of whoever changes the index, and of cached(): the thread that changes it reads without.
  mutable std::mutex mutex_;
};

}  // namespace hearth
