// A client's EBNF: read, checked, and written again under names of ours, so that it can stand in a larger grammar.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"
#include "grammar/ebnf_writer.h"

namespace hearth {

struct EbnfLimits {
  int64_t max_bytes = 64 << 10;
  int64_t max_depth = 64;  // of groups
  int64_t max_rules = 2000;
  int64_t max_written_out = 20'000;  // elements with repetitions written out, of one rule
};

// Rules are `name ::= ...`, one of them root; the element that root is. Rules may refer to themselves. A rule that
// begins with itself is written as a repetition; through other rules that is refused, and so are rules that never end,
// macros, look-ahead and options of rules.
Result<std::string> write_ebnf(EbnfWriter& writer, std::string_view grammar, const EbnfLimits& limits = {});

}  // namespace hearth
