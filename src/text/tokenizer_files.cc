// The vocabulary first, then the names.
#include "text/tokenizer_files.h"

#include "text/token_names.h"

namespace hearth {

Result<std::unique_ptr<Tokenizer>> make_tokenizer(const TokenizerFiles& files) {
  HEARTH_ASSIGN(const TokenNames names, read_token_names(files));
  if (files.tokenizer_json) return Tokenizer::from_tokenizer_json(*files.tokenizer_json, names);
  if (files.tokenizer_model) return Tokenizer::from_sentencepiece(*files.tokenizer_model, names);
  return invalid("the model's folder has neither tokenizer.json nor tokenizer.model");
}

}  // namespace hearth
