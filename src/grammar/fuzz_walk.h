// For fuzz targets: a grammar compiled, and a walk through it.
#pragma once

#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "base/check.h"
#include "grammar/test_vocabulary.h"

namespace hearth {

constexpr size_t kFuzzChoices = 16;

// A text that the grammar takes as a whole, found by `choices` in a few steps; nullopt: refused, or none was found.
inline std::optional<std::string> fuzz_walk(const GrammarSpec& spec, std::string_view choices) {
  constexpr int kSteps = 48;
  const int64_t size = byte_vocabulary().size;
  // Nothing is remembered, so that each input meets the same compiler.
  static const auto compiler =
      make_grammar_compiler(byte_vocabulary(), {.max_compiled_bytes = 4 << 20, .cache_bytes = 0});
  const auto grammar = compiler->compile(spec);
  if (!grammar.ok()) {
    HEARTH_CHECK(grammar.status().code() == Code::kInvalidArgument && !grammar.status().message().empty());
    return std::nullopt;
  }
  const auto constraint = (*grammar)->start();
  std::vector<int32_t> mask(static_cast<size_t>(Constraint::mask_words(size)));
  std::string out;
  for (int step = 0; step < kSteps; ++step) {
    if (!constraint->fill_mask(mask)) return std::nullopt;
    const auto has = [&](int32_t token) {
      return (static_cast<uint32_t>(mask[static_cast<size_t>(token / 32)]) >> (token % 32) & 1) != 0;
    };
    if (has(kTestEnd)) return out;
    // The first allowed byte from a chosen one on.
    const auto choice = static_cast<unsigned char>(choices[static_cast<size_t>(step) % choices.size()]);
    int32_t token = 0;
    while (token < 256 && !has((token + choice) % 256)) ++token;
    HEARTH_CHECK(token < 256);  // a grammar never runs dry
    token = (token + choice) % 256;
    const int32_t refused = (token + 1) % 256;
    HEARTH_CHECK(has(refused) || !constraint->accept(refused));
    HEARTH_CHECK(constraint->accept(token));
    out.push_back(static_cast<char>(token));
  }
  return std::nullopt;
}

}  // namespace hearth
