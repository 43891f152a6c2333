// What a folder's small files say of its tokens: added ones, and which token is called what.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "text/added_tokens.h"
#include "text/tokenizer_files.h"

namespace hearth {

struct TokenNames {
  // Tokens beside the vocabulary's own, or other flags for those; id -1: whatever the vocabulary has.
  struct Added {
    AddedToken token;
    bool normalized = false;
  };
  std::vector<Added> added;
  // "bos_token", "eos_token", "pad_token", ..., and a model's own such names: what each is spelled.
  std::vector<std::pair<std::string, std::string>> names;
  // tokenizer_config.json's, where it says so.
  std::optional<bool> add_bos, add_eos;
  std::string tokenizer_class;

  const std::string* find(std::string_view name) const;
};

Result<TokenNames> read_token_names(const TokenizerFiles& files);

}  // namespace hearth
