// TokenRules as a Grammar: which tokens may come at all, and which words may not. They do not say where a text ends;
// beside another grammar both hold, and where that one ends a text it may end.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "grammar/constraint.h"

namespace hearth {

struct TokenRules {
  std::vector<int32_t> allowed;                 // empty: all
  std::vector<std::vector<int32_t>> bad_words;  // each as its tokens: the last may not follow the others
  // Of the other grammar; they may come where it allows them.
  std::vector<int32_t> end_tokens;
  bool any() const { return !allowed.empty() || !bad_words.empty(); }
};

// All ids below `vocab_size`.
std::shared_ptr<const Grammar> make_token_rules(TokenRules rules, int64_t vocab_size,
                                                std::shared_ptr<const Grammar> beside = nullptr);

}  // namespace hearth
