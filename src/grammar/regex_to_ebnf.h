// Regular expressions as elements of a grammar, once it was checked what they cost. The element matches a whole text;
// every text that it matches is one in which the expression is found, as Python and ECMAScript would search for it.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"
#include "grammar/regex_tree.h"

namespace hearth {

struct RegexLimits {
  int64_t max_bytes = 16 << 10;
  int64_t max_depth = 64;        // of groups
  int64_t max_positions = 3000;  // characters and classes, repeated ones written out
};

enum class RegexText {
  kPlain,       // the characters as they are
  kJsonString,  // as they stand in a JSON string, between its quotes: escaped where they must be
};

// Refuses what is not regular (back references, look around, word boundaries), what is too large, and what matches some
// text in exponentially many ways, such as (a|a)*b, and a length that cannot be kept.
Result<std::string> regex_to_ebnf(std::string_view regex, RegexText text = RegexText::kPlain, RegexLength length = {},
                                  const RegexLimits& limits = {});

}  // namespace hearth
