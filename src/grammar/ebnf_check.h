// What is checked of a client's EBNF before a grammar is made of it: what its repetitions and groups cost.
#pragma once

#include <string_view>

#include "base/status.h"

namespace hearth {

struct EbnfLimits {
  int64_t max_bytes = 64 << 10;
  int64_t max_depth = 64;  // of groups
  int64_t max_rules = 2000;
  int64_t max_written_out = 20'000;  // elements with repetitions written out, of one rule
};

Status check_ebnf(std::string_view grammar, const EbnfLimits& limits = {});

}  // namespace hearth
