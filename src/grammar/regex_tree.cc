// Lengths add up along a sequence; a bound is kept by the numbers of the repetitions in it.
#include "grammar/regex_tree.h"

#include <algorithm>
#include <cmath>

namespace hearth {
namespace {

constexpr int64_t kNoLimit = RegexLength::kNoLimit;
using Kind = RegexNode::Kind;

int64_t times(int64_t a, int64_t b) { return a == 0 || b == 0 ? 0 : a > kNoLimit / b ? kNoLimit : a * b; }

int64_t most_times(const RegexNode& repeat) { return repeat.max == RegexNode::kUnbounded ? kNoLimit : repeat.max; }

std::optional<RegexNode> keep_in_alternatives(RegexNode node, RegexLength length) {
  std::vector<RegexNode> kept;
  for (RegexNode& part : node.parts) {
    if (auto one = keep_length(std::move(part), length)) kept.push_back(std::move(*one));
  }
  if (kept.empty()) return std::nullopt;
  node.parts = std::move(kept);
  return node;
}

std::optional<RegexNode> keep_in_repeat(RegexNode node, RegexLength length) {
  const RegexLength one = length_of(node.parts[0]);
  if (one.max == 0) return std::nullopt;  // repeats nothing
  int64_t least = node.min, most = most_times(node);
  if (one.min == one.max) {
    least = std::max(least, (length.min + one.min - 1) / one.min);
    most = std::min(most, length.max / one.min);
  } else {
    // As many as the square root leaves to each of them as much as there may be of them.
    if (times(least, one.min) < length.min) return std::nullopt;
    const auto root = static_cast<int64_t>(std::sqrt(static_cast<double>(length.max / std::max<int64_t>(one.min, 1))));
    most = std::max(least, std::min(most, root));
    if (most > 0) {
      auto inner = keep_length(std::move(node.parts[0]), {0, length.max / most});
      if (!inner) return std::nullopt;
      node.parts[0] = std::move(*inner);
    }
  }
  if (least > most) return std::nullopt;
  constexpr int64_t kMostWrittenOut = 1024;
  node.min = least;
  node.max = most >= kNoLimit ? RegexNode::kUnbounded : std::min(most, std::max(least, kMostWrittenOut));
  return node;
}

// One part takes what is missing; what is too much is shared by those that vary.
std::optional<RegexNode> keep_in_sequence(RegexNode node, RegexLength length) {
  RegexLength all = length_of(node);
  for (RegexNode& part : node.parts) {
    if (all.min >= length.min) break;
    const RegexLength own = length_of(part);
    const int64_t more = std::min(own.max - own.min, length.min - all.min);
    if (more == 0) continue;
    auto kept = keep_length(part, {own.min + more, own.max});
    if (!kept) continue;
    part = std::move(*kept);
    all = length_of(node);
  }
  if (all.min < length.min || all.min > length.max) return std::nullopt;
  if (all.max <= length.max) return node;
  // Those that vary least first, so that what they leave is the others'.
  std::vector<RegexNode*> parts;
  for (RegexNode& part : node.parts) parts.push_back(&part);
  const auto varies = [](const RegexNode* part) { return length_of(*part).max - length_of(*part).min; };
  std::ranges::stable_sort(parts, {}, varies);
  int64_t room = length.max - all.min;
  for (size_t i = 0; i < parts.size(); ++i) {
    const RegexLength own = length_of(*parts[i]);
    const int64_t share = std::min(own.max - own.min, room / static_cast<int64_t>(parts.size() - i));
    auto kept = keep_length(std::move(*parts[i]), {own.min, own.min + share});
    if (!kept) return std::nullopt;
    room -= length_of(*kept).max - own.min;
    *parts[i] = std::move(*kept);
  }
  return node;
}

}  // namespace

RegexLength length_of(const RegexNode& node) {
  RegexLength out{0, 0};
  switch (node.kind) {
    case Kind::kClass: return {1, 1};
    case Kind::kConcat:
      for (const RegexNode& part : node.parts) {
        const RegexLength one = length_of(part);
        out = {std::min(out.min + one.min, kNoLimit), std::min(out.max + one.max, kNoLimit)};
      }
      return out;
    case Kind::kAlternatives:
      out.min = kNoLimit;
      for (const RegexNode& part : node.parts) {
        const RegexLength one = length_of(part);
        out = {std::min(out.min, one.min), std::max(out.max, one.max)};
      }
      return out;
    case Kind::kRepeat: {
      const RegexLength one = length_of(node.parts[0]);
      return {times(node.min, one.min), times(most_times(node), one.max)};
    }
  }
  return out;
}

std::optional<RegexNode> keep_length(RegexNode node, RegexLength length) {
  const RegexLength own = length_of(node);
  if (own.min >= length.min && own.max <= length.max) return node;
  if (own.min > length.max || own.max < length.min) return std::nullopt;
  switch (node.kind) {
    case Kind::kClass: return std::nullopt;
    case Kind::kConcat: return keep_in_sequence(std::move(node), length);
    case Kind::kAlternatives: return keep_in_alternatives(std::move(node), length);
    case Kind::kRepeat: return keep_in_repeat(std::move(node), length);
  }
  return std::nullopt;
}

}  // namespace hearth
