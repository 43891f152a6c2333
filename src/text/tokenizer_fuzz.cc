// Fuzz target: tokenizers made of any bytes, and any text in them. An input's first byte says what the rest is.
#include "base/check.h"
#include "text/token_names.h"
#include "text/tokenizer.h"
#include "text/tokenizer_files.h"

using namespace hearth;

namespace {

// Parts end with a byte that no UTF-8 has.
std::string take(std::string_view& rest) {
  const std::string_view part = rest.substr(0, rest.find('\xff'));
  rest.remove_prefix(std::min(rest.size(), part.size() + 1));
  return std::string(part);
}

void use(const Result<std::unique_ptr<Tokenizer>>& made, std::string_view text) {
  if (!made.ok()) return;
  const Tokenizer& tokenizer = **made;
  const auto size = static_cast<int32_t>(tokenizer.vocab_size());
  for (const EncodeOptions options : {EncodeOptions{false, false}, EncodeOptions{true, true}}) {
    const auto ids = tokenizer.encode(text, options);
    if (!ids.ok()) continue;
    for (const int32_t id : *ids) HEARTH_CHECK(id >= 0 && id < size);
    tokenizer.decode(*ids, options.add_special);
  }
  tokenizer.decode({-1, 0, 1, size - 1, size}, false);
}

// A vocabulary with a token for every byte gives every text back.
const Tokenizer& every_byte() {
  static const auto made = [] {
    Vocabulary v{.model = "gpt2", .pre = "gpt-2"};
    char32_t next = 0x100;  // GPT-2 spells the bytes that do not print as the characters from here on
    for (int byte = 0; byte < 256; ++byte) {
      const bool prints = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
      const char32_t c = prints ? static_cast<char32_t>(byte) : next++;
      std::string& token = v.tokens.emplace_back();
      if (c >= 0x80) token += static_cast<char>(0xC0 | c >> 6);
      token += static_cast<char>(c >= 0x80 ? 0x80 | (c & 0x3F) : c);
    }
    for (const char* pair : {"t h", "th e", "\u0120 the", "a a", "aa aa", "\u0120 a", "1 2", "\u010A \u010A"}) {
      std::string merged = pair;
      merged.erase(merged.find(' '), 1);
      v.tokens.push_back(merged);
      v.merges.emplace_back(pair);
    }
    v.tokens.emplace_back("<|end|>");
    v.types.assign(v.tokens.size(), 1);
    v.types.back() = 3;
    auto tokenizer = Tokenizer::from_vocabulary(v);
    HEARTH_CHECK(tokenizer.ok());
    return std::move(tokenizer).value();
  }();
  return *made;
}

void check_round_trip(std::string_view text) {
  const auto ids = every_byte().encode(text);
  if (!ids.ok()) return;  // not UTF-8
  std::string bytes;
  for (const int32_t id : *ids) bytes += every_byte().token_bytes(id);
  HEARTH_CHECK(bytes == text || text.find("<|end|>") != text.npos);
  every_byte().encode(text, {.parse_special = true}).ok();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0]) {
    case 'j': {
      const std::string json = take(rest);
      use(Tokenizer::from_tokenizer_json(json, {}), rest);
      break;
    }
    case 'f': {
      TokenizerFiles files;
      files.tokenizer_json = take(rest);
      files.tokenizer_config = take(rest);
      files.special_tokens_map = take(rest);
      files.added_tokens = take(rest);
      use(make_tokenizer(files), rest);
      break;
    }
    case 's': use(Tokenizer::from_sentencepiece(rest, {}), "Hello \u00E9\u4E2D 123</s><s>"); break;
    default: check_round_trip(rest);
  }
  return 0;
}
