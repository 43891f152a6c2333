// Text to token ids and back, for byte-pair vocabularies of any origin: tokenizer.json, SentencePiece, GGUF.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "text/rendered_prompt.h"

namespace hearth {

// What a GGUF file's tokenizer.ggml.* metadata says.
struct Vocabulary {
  std::string model;  // "gpt2" or "llama"
  std::string pre;
  std::vector<std::string> tokens;
  std::vector<float> scores;
  std::vector<int32_t> types;  // 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte
  std::vector<std::string> merges;
  int64_t bos = -1, eos = -1, unknown = -1, padding = -1;
  int64_t first_added = INT64_MAX;  // user-defined tokens from here on are found in the text as it is written
  bool add_bos = false, add_eos = false;
  bool add_space_prefix = false;
  std::vector<std::pair<std::string, std::string>> names;  // beside those of the ids above
};

struct EncodeOptions {
  bool add_special = false;    // the tokens that the model expects around every text, mostly one at the start
  bool parse_special = false;  // otherwise a control token's text is ordinary text
};

struct TokenizerParts;
struct TokenNames;

// Immutable, and so usable from any thread.
class Tokenizer {
 public:
  // `names`: what other files of the folder say (text/tokenizer_files.h reads them all).
  static Result<std::unique_ptr<Tokenizer>> from_tokenizer_json(std::string_view tokenizer_json,
                                                                const TokenNames& names);
  static Result<std::unique_ptr<Tokenizer>> from_sentencepiece(std::string_view model_proto, const TokenNames& names);
  static Result<std::unique_ptr<Tokenizer>> from_vocabulary(const Vocabulary& vocabulary);

  explicit Tokenizer(std::unique_ptr<TokenizerParts> parts);
  ~Tokenizer();

  // Refuses text that is not UTF-8.
  Result<std::vector<int32_t>> encode(std::string_view text, EncodeOptions options = {}) const;
  // A prompt made by a chat template: control tokens are parsed in the template's own text only. Adds no special
  // tokens, since the template writes them.
  Result<std::vector<int32_t>> encode_rendered(const RenderedPrompt& prompt) const;

  // Always UTF-8: broken bytes become U+FFFD. Ids outside the vocabulary yield nothing.
  std::string decode(const std::vector<int32_t>& ids, bool skip_special) const;
  // The bytes that a token stands for, which may be a part of a character; a control token's name.
  std::string_view token_bytes(int32_t id) const;
  // The vocabulary's own spelling of a token ("Ġthe", "▁the", "<0x0A>").
  std::string_view token_text(int32_t id) const;
  std::optional<int32_t> token_id(std::string_view text) const;

  int64_t vocab_size() const;  // one more than the greatest id
  std::optional<int32_t> bos() const;
  std::optional<int32_t> eos() const;
  bool is_special(int32_t id) const;
  // The control tokens that a text names, in order: where each begins, and its id.
  std::vector<std::pair<size_t, int32_t>> find_special(std::string_view text) const;
  // Tokens that have a name ("bos_token", "pad_token", ...) and how each is spelled: variables of chat templates.
  const std::vector<std::pair<std::string, std::string>>& names() const;
  // Encoding puts a space before a text, and decoding drops it again from the first token.
  bool strips_leading_space() const;

 private:
  std::unique_ptr<const TokenizerParts> parts_;
};

}  // namespace hearth
