// Fuzz target: any regular expression, EBNF or structural tag is compiled or refused, and masks agree with what is
// taken.
#include "grammar/fuzz_walk.h"

using namespace hearth;

// The first byte is the kind, the next ones choose the way through the grammar, the rest is its text.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1 + kFuzzChoices) return 0;
  constexpr GrammarSpec::Kind kKinds[] = {GrammarSpec::Kind::kRegex, GrammarSpec::Kind::kEbnf,
                                          GrammarSpec::Kind::kStructuralTag};
  const char* const text = reinterpret_cast<const char*>(data) + 1;
  fuzz_walk({kKinds[data[0] % std::size(kKinds)], std::string(text + kFuzzChoices, size - 1 - kFuzzChoices)},
            {text, kFuzzChoices});
  return 0;
}
