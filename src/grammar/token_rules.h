// TokenRules as a Grammar: which tokens may come at all, and which words may not. They do not say where a text ends.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "grammar/constraint.h"

namespace hearth {

struct TokenRules {
  std::vector<int32_t> allowed;                 // empty: all
  std::vector<std::vector<int32_t>> bad_words;  // each as its tokens: the last may not follow the others
  bool any() const { return !allowed.empty() || !bad_words.empty(); }
};

// All ids below `vocab_size`.
std::shared_ptr<const Grammar> make_token_rules(TokenRules rules, int64_t vocab_size);

}  // namespace hearth
