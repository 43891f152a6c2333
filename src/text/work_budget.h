// WorkBudget: what encoding one text may cost, whatever the tokenizer's file asks for. Both are in sum over the text:
// a file can ask for little at each of many places.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/status.h"

namespace hearth {

class WorkBudget {
 public:
  explicit WorkBudget(size_t text_bytes)
      : steps_(kSteps + kStepsPerByte * static_cast<int64_t>(text_bytes)),
        growth_(kGrowth + kGrowthPerByte * static_cast<int64_t>(text_bytes)) {}

  // Of matching: items of an expression tried, characters gone over, nodes of a trie. Real tokenizers take 1 to 10 a
  // byte.
  bool spend_steps(int64_t steps) { return (steps_ -= steps) >= 0; }
  // Bytes by which rewriting makes the text longer. Real tokenizers at most triple it.
  bool spend_growth(int64_t bytes) { return (growth_ -= bytes) >= 0; }

  static Status too_many_steps() { return invalid("the tokenizer's patterns take too many steps on this text"); }
  static Status too_long() { return invalid("the tokenizer's normalizers make this text too long"); }

 private:
  static constexpr int64_t kSteps = 16'000'000, kStepsPerByte = 64;
  static constexpr int64_t kGrowth = 4096, kGrowthPerByte = 16;
  int64_t steps_, growth_;
};

}  // namespace hearth
