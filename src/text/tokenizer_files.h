// A tokenizer from the files of a model's folder, as transformers reads them: the vocabulary from tokenizer.json or
// SentencePiece's tokenizer.model, or GPT-2's vocab.json and merges.txt, and what tokenizer_config.json,
// special_tokens_map.json and added_tokens.json add to it and call its tokens.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/status.h"
#include "text/tokenizer.h"

namespace hearth {

// Contents; none where there is no such file.
struct TokenizerFiles {
  std::optional<std::string> tokenizer_json, tokenizer_model;
  std::optional<std::string> vocab_json, merges_txt;  // together, where there is neither of those
  std::optional<std::string> tokenizer_config, special_tokens_map, added_tokens;
};

// Errors begin with the name of the file.
Result<std::unique_ptr<Tokenizer>> make_tokenizer(const TokenizerFiles& files);

}  // namespace hearth
