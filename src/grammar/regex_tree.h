// A regular expression as a tree, and the tree cut down to matches of a given length.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace hearth {

struct CharRange {
  char32_t first, last;
};
// Sorted and disjoint.
using CharClass = std::vector<CharRange>;

struct RegexNode {
  enum class Kind { kClass, kConcat, kAlternatives, kRepeat };
  static constexpr int64_t kUnbounded = -1;
  Kind kind = Kind::kConcat;  // without parts: the empty text
  CharClass chars;
  std::vector<RegexNode> parts;
  int64_t min = 0, max = 0;  // kRepeat
};

// How many characters a match may have.
struct RegexLength {
  static constexpr int64_t kNoLimit = int64_t{1} << 40;
  int64_t min = 0, max = kNoLimit;
};

RegexLength length_of(const RegexNode& node);

// Matches of that length. Where several parts share it, some of them may be missing. Nullopt: there is none, or
// repetitions cannot say it.
std::optional<RegexNode> keep_length(RegexNode node, RegexLength length);

}  // namespace hearth
