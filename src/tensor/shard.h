// Shard: which part of a model a rank has.
#pragma once

#include <cstdint>

namespace hearth {

struct Range {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
  // Of things that have `each` smaller ones.
  Range of(int64_t each) const { return {begin * each, end * each}; }
  bool operator==(const Range&) const = default;
};

struct Shard {
  int rank = 0, size = 1;
  bool whole() const { return size == 1; }
  // This rank's of `count` things, dealt out in order. Where there are fewer than ranks, neighbours have the same one.
  Range part(int64_t count) const {
    const int64_t begin = rank * count / size;
    return {begin, count > 0 && count < size ? begin + 1 : (rank + 1) * count / size};
  }
  bool operator==(const Shard&) const = default;
};

}  // namespace hearth
