// Pre-tokenization: what cuts a text into the pieces inside which tokens are merged.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/status.h"
#include "text/regex.h"
#include "text/word_scanner.h"
#include "text/work_budget.h"

namespace hearth {

// Finds separators in a piece and cuts there.
struct Splitter {
  // What becomes of the separators.
  enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };
  enum class Class { kDigit, kPunctuation, kSpace };

  std::variant<WordPattern, Regex, Class, std::string> separator;  // a string stands for itself
  Behavior behavior = Behavior::kIsolated;
  bool invert = false;  // the separators are what lies between the matches

  // Appends the pieces of `piece`, in order, none empty.
  Status split(std::string_view piece, std::vector<std::string_view>& pieces, WorkBudget& budget) const;
};

// Each splitter cuts the pieces that the one before left.
Result<std::vector<std::string_view>> pre_tokenize(const std::vector<Splitter>& splitters, std::string_view text,
                                                   WorkBudget& budget);

}  // namespace hearth
