// A vocabulary of single bytes, some longer tokens and an end token, and a walk through a grammar with it, for tests.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "grammar/grammar_compiler.h"

namespace hearth {

constexpr int32_t kTestEnd = 256;  // and control tokens up to 259
constexpr int32_t kTestControl = 257;

inline GrammarVocabulary byte_vocabulary(const std::vector<std::string>& longer = {}) {
  GrammarVocabulary out;
  for (int byte = 0; byte < 256; ++byte) out.tokens.emplace_back(1, static_cast<char>(byte));
  out.tokens.resize(260);
  out.tokens.insert(out.tokens.end(), longer.begin(), longer.end());
  out.size = static_cast<int64_t>(out.tokens.size()) + 5;
  out.end_tokens = {kTestEnd};
  return out;
}

// Whether a constraint's mask has the token.
inline bool allows(Constraint& constraint, int32_t token, int64_t vocab_size) {
  std::vector<int32_t> mask(static_cast<size_t>(Constraint::mask_words(vocab_size)));
  if (!constraint.fill_mask(mask)) return true;
  return (static_cast<uint32_t>(mask[static_cast<size_t>(token / 32)]) >> (token % 32) & 1) != 0;
}

// Whether the grammar takes the text as it is, byte by byte, and it may end there; masks and accept() must agree.
inline bool takes(const Grammar& grammar, std::string_view text) {
  const auto constraint = grammar.start();
  const int64_t vocab_size = byte_vocabulary().size;
  for (const char c : text) {
    const int32_t token = static_cast<unsigned char>(c);
    const bool allowed = allows(*constraint, token, vocab_size);
    HEARTH_CHECK(constraint->accept(token) == allowed);
    if (!allowed) return false;
  }
  return allows(*constraint, kTestEnd, vocab_size);
}

}  // namespace hearth
