// Symbols stay in place in a linked list; a heap holds candidate merges, and one that a neighbour's merge overtook is
// dropped when it surfaces.
#include "text/bpe.h"

#include <queue>

namespace hearth {

void Bpe::apply(std::vector<int32_t>& symbols) const {
  constexpr int32_t kMergedAway = -1;
  struct Candidate {
    int32_t rank;
    uint32_t left, right;  // positions
    uint64_t pair;
    int32_t merged;
    bool operator<(const Candidate& other) const {  // the heap's top is the greatest
      return rank != other.rank ? rank > other.rank : left > other.left;
    }
  };
  const auto count = static_cast<uint32_t>(symbols.size());
  if (count < 2) return;
  std::vector<uint32_t> previous(count), next(count);
  std::priority_queue<Candidate> heap;
  const auto consider = [&](uint32_t left, uint32_t right) {
    const uint64_t pair = key(symbols[left], symbols[right]);
    if (const auto merge = merges_.find(pair); merge != merges_.end()) {
      heap.push({merge->second.rank, left, right, pair, merge->second.merged});
    }
  };
  for (uint32_t i = 0; i < count; ++i) {
    previous[i] = i - 1;
    next[i] = i + 1;
    if (i > 0) consider(i - 1, i);
  }
  while (!heap.empty()) {
    const Candidate best = heap.top();
    heap.pop();
    if (symbols[best.left] == kMergedAway || next[best.left] != best.right ||
        key(symbols[best.left], symbols[best.right]) != best.pair) {
      continue;
    }
    symbols[best.left] = best.merged;
    symbols[best.right] = kMergedAway;
    const uint32_t after = next[best.left] = next[best.right];
    if (after < count) {
      previous[after] = best.left;
      consider(best.left, after);
    }
    if (best.left > 0) consider(previous[best.left], best.left);
  }
  std::erase(symbols, kMergedAway);
}

}  // namespace hearth
