// The merge engine of all byte-pair tokenizers: symbols are token ids, and the best-ranked mergeable pair, leftmost
// first, is merged until none is left. O(n log n) in the number of symbols.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

namespace hearth {

class Bpe {
 public:
  void reserve(size_t merges) { merges_.reserve(merges); }
  // Lower ranks first. A pair added twice keeps the first.
  void add_merge(int32_t left, int32_t right, int32_t rank, int32_t merged) {
    merges_.try_emplace(key(left, right), Merge{rank, merged});
  }
  // Merges `symbols` in place.
  void apply(std::vector<int32_t>& symbols) const;

 private:
  struct Merge {
    int32_t rank, merged;
  };
  struct Hash {
    size_t operator()(uint64_t pair) const { return (pair * 0x9E3779B97F4A7C15u) >> 20; }
  };
  static uint64_t key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }

  std::unordered_map<uint64_t, Merge, Hash> merges_;
};

}  // namespace hearth
