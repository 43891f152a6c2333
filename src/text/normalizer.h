// Rewriting of a text before it is cut into pieces: a list of small steps.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "text/work_budget.h"

namespace hearth {

struct Rewrite {
  enum class Kind {
    kPrepend,         // `to` before any text
    kPrependIfNone,   // `to` before a text that does not begin with it
    kPrependAtStart,  // the same, for the text at the very start only
    kReplace,         // every `from` by `to`
    kLowercase,       // ASCII; other capitals are refused
    kNfc,
    kStrip,  // white space at both ends
  };
  Kind kind;
  std::string from, to;
};

// at_start: nothing precedes the text, not even a control token.
Result<std::string> rewrite(const std::vector<Rewrite>& steps, std::string text, bool at_start, WorkBudget& budget);

}  // namespace hearth
