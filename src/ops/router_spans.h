// How a router's logit is summed: K in `count` spans of `length` (the last may be short or empty), each by itself, then
// those sums in order of K. More spans where there are few experts, so that as much can be done at once.
#pragma once

#include <cstdint>

#include "base/checked.h"

namespace hearth {

struct RouterSpans {
  int64_t count, length;
};
constexpr RouterSpans router_spans(int64_t hidden, int64_t num_experts) {
  const int64_t count = num_experts <= 64 ? 16 : 8;
  return {count, ceil_div(ceil_div(hidden, count), int64_t{32}) * 32};
}

}  // namespace hearth
