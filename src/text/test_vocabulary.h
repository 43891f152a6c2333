// For tests: the vocabulary of a GGUF file, from weights/gguf.h's GgufTokenizer, which this folder does not know.
#pragma once

#include "text/tokenizer.h"

namespace hearth {

template <typename GgufTokenizer>
Vocabulary vocabulary_of(const GgufTokenizer& stored) {
  Vocabulary out{.model = std::string(stored.model),
                 .pre = std::string(stored.pre),
                 .tokens = {stored.tokens.begin(), stored.tokens.end()},
                 .scores = stored.scores,
                 .types = {stored.types.begin(), stored.types.end()},
                 .merges = {stored.merges.begin(), stored.merges.end()},
                 .bos = stored.bos.value_or(-1),
                 .eos = stored.eos.value_or(-1),
                 .unknown = stored.unknown.value_or(-1),
                 .add_bos = stored.add_bos.value_or(false),
                 .add_space_prefix = stored.add_space_prefix.value_or(false)};
  return out;
}

}  // namespace hearth
