// What a tokenizer is made of; the three makers fill it, tokenizer.cc runs it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/normalizer.h"
#include "text/pre_tokenizer.h"
#include "text/tokenizer.h"

namespace hearth {

struct TokenizerParts {
  struct Token {
    std::string text;   // as the vocabulary spells it
    std::string bytes;  // what it stands for
    bool special = false;
  };
  std::vector<Token> tokens;  // by id; holes are empty
  std::unordered_map<std::string, int32_t> id_of_text;

  // Encoding: raw added tokens, rewriting, added tokens of rewritten text, splitting, merging.
  AddedTokens added, added_after_rewrite;
  std::vector<Rewrite> rewrites;        // before added_after_rewrite
  std::vector<Rewrite> piece_rewrites;  // after it
  std::vector<Splitter> splitters;
  Bpe bpe;
  bool byte_symbols = false;        // merging starts from bytes; otherwise from characters
  std::vector<int32_t> id_of_byte;  // 256 ids, -1 none; for characters outside the vocabulary if not byte_symbols
  std::optional<int32_t> unknown;   // what a character gets that is neither in the vocabulary nor has byte tokens
  bool fuse_unknown = true;         // one for a run of them
  bool whole_pieces_first = false;  // a piece that is a token is not merged (the merges might not reach it)
  std::unordered_map<std::string, int32_t>
      id_of_symbol;                     // by bytes for whole_pieces_first; else by the text of characters
  std::vector<int32_t> prefix, suffix;  // add_special

  bool strip_leading_space = false;  // when decoding
  std::optional<int32_t> bos, eos;
  std::vector<std::pair<std::string, std::string>> names;  // "bos_token" and its kin: spellings

  // Room for `id`; refuses negative and absurd ones.
  Status add_token(int64_t id, Token token);
};

// GPT-2's spelling of bytes as printable characters: its inverse. Nullopt for a text that is no such spelling.
std::optional<std::string> bytes_of_byte_level(std::string_view text);
// "▁" is a space.
std::string spaces_for_marks(std::string_view text);
// "<0x0A>" is 10.
std::optional<unsigned char> byte_of_fallback(std::string_view text);
// Puts bytes to each token and fills id_of_byte, for vocabularies that spell bytes as GPT-2 does.
void use_byte_level(TokenizerParts& parts);
// The same for vocabularies that write "▁" for a space and "<0x0A>" for a byte.
void use_metaspace(TokenizerParts& parts);

// A merge as vocabularies list them, "left right" or in two halves; the lower the rank, the earlier.
Status add_merge(TokenizerParts& parts, std::string_view pair, int32_t rank);
Status add_merge(TokenizerParts& parts, const std::string& left, const std::string& right, int32_t rank);
// SentencePiece's: any two neighbours whose text together is a token, the best score first.
Status add_merges_by_score(TokenizerParts& parts, const std::vector<float>& scores);

}  // namespace hearth
