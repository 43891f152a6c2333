// The two spellings of bytes in vocabularies: GPT-2's printable characters, and "▁" with byte tokens.
#include "text/tokenizer_parts.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "text/utf8.h"

namespace hearth {
namespace {

constexpr int64_t kMaxVocabulary = 4'000'000;
constexpr size_t kMaxTokenBytes = 4096;
constexpr std::string_view kSpaceMark = "\u2581";

// Printable Latin-1 bytes stand for themselves, the others, in order, for U+0100 and up.
std::array<int, 512> byte_of_character() {
  std::array<int, 512> table;
  table.fill(-1);
  size_t next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    table[printable ? static_cast<size_t>(byte) : next++] = byte;
  }
  return table;
}

}  // namespace

Status TokenizerParts::add_token(int64_t id, Token token) {
  if (id < 0 || id >= kMaxVocabulary) return invalid("token id ", id, " is out of range");
  if (token.text.size() > kMaxTokenBytes) return invalid("token ", id, " is longer than ", kMaxTokenBytes, " bytes");
  if (id >= static_cast<int64_t>(tokens.size())) tokens.resize(static_cast<size_t>(id) + 1);
  id_of_text.insert_or_assign(token.text, static_cast<int32_t>(id));
  tokens[static_cast<size_t>(id)] = std::move(token);
  return {};
}

std::optional<std::string> bytes_of_byte_level(std::string_view text) {
  static const auto table = byte_of_character();
  std::string bytes;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = read_utf8(text, at);
    if (!c.valid || c.value >= table.size() || table[c.value] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(table[c.value]));
    at += c.length;
  }
  return bytes;
}

std::string spaces_for_marks(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const bool space = text.substr(at).starts_with(kSpaceMark);
    out.push_back(space ? ' ' : text[at]);
    at += space ? kSpaceMark.size() : 1;
  }
  return out;
}

std::optional<unsigned char> byte_of_fallback(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return std::nullopt;
  unsigned char byte = 0;
  const auto [end, error] = std::from_chars(text.data() + 3, text.data() + 5, byte, 16);
  if (error != std::errc() || end != text.data() + 5) return std::nullopt;
  return byte;
}

void use_byte_level(TokenizerParts& parts) {
  parts.byte_symbols = true;
  parts.id_of_byte.assign(256, -1);
  for (size_t id = 0; id < parts.tokens.size(); ++id) {
    auto& token = parts.tokens[id];
    if (!token.bytes.empty()) continue;  // a control token or another that is spelled as it is
    token.bytes = bytes_of_byte_level(token.text).value_or(token.text);
    parts.id_of_symbol.try_emplace(token.bytes, static_cast<int32_t>(id));
    if (token.bytes.size() == 1) {
      int32_t& byte = parts.id_of_byte[static_cast<unsigned char>(token.bytes[0])];
      if (byte < 0) byte = static_cast<int32_t>(id);
    }
  }
}

void use_metaspace(TokenizerParts& parts) {
  parts.byte_symbols = false;
  parts.id_of_byte.assign(256, -1);
  for (size_t id = 0; id < parts.tokens.size(); ++id) {
    auto& token = parts.tokens[id];
    if (!token.bytes.empty()) continue;
    if (const auto byte = byte_of_fallback(token.text)) {
      token.bytes = static_cast<char>(*byte);
      parts.id_of_byte[*byte] = static_cast<int32_t>(id);
      continue;
    }
    parts.id_of_symbol.try_emplace(token.text, static_cast<int32_t>(id));
    token.bytes = spaces_for_marks(token.text);
  }
}

Status add_merge(TokenizerParts& parts, std::string_view pair, int32_t rank) {
  const size_t space = pair.find(' ', 1);  // a half may itself begin with a space, but is not empty
  if (space == pair.npos) return invalid("merge ", rank, " is not a pair");
  return add_merge(parts, std::string(pair.substr(0, space)), std::string(pair.substr(space + 1)), rank);
}

Status add_merge(TokenizerParts& parts, const std::string& left, const std::string& right, int32_t rank) {
  const auto& ids = parts.id_of_text;
  const auto left_id = ids.find(left), right_id = ids.find(right), merged_id = ids.find(left + right);
  if (left_id == ids.end() || right_id == ids.end() || merged_id == ids.end()) {
    return invalid("merge ", rank, " names a token that is not in the vocabulary");
  }
  parts.bpe.add_merge(left_id->second, right_id->second, rank, merged_id->second);
  return {};
}

Status add_merges_by_score(TokenizerParts& parts, const std::vector<float>& scores) {
  if (std::ranges::any_of(scores, [](float score) { return std::isnan(score); }))
    return invalid("a token's score is NaN");
  std::vector<int32_t> order;
  for (const auto& [text, id] : parts.id_of_symbol) order.push_back(id);
  std::ranges::sort(order, [&](int32_t a, int32_t b) {
    const float x = scores[static_cast<size_t>(a)], y = scores[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  });
  // Each token is cut at each of its characters, and both halves looked up.
  constexpr size_t kMaxWork = size_t{1} << 32;
  size_t work = 0;
  for (size_t i = 0, rank = 0; i < order.size(); ++i) {
    if (i > 0 && scores[static_cast<size_t>(order[i])] != scores[static_cast<size_t>(order[i - 1])]) rank = i;
    const std::string& text = parts.tokens[static_cast<size_t>(order[i])].text;
    if ((work += text.size() * text.size()) > kMaxWork) return unimplemented("a vocabulary with too many long tokens");
    for (size_t cut = read_utf8(text, 0).length; cut < text.size(); cut += read_utf8(text, cut).length) {
      const auto left = parts.id_of_symbol.find(text.substr(0, cut));
      if (left == parts.id_of_symbol.end()) continue;
      const auto right = parts.id_of_symbol.find(text.substr(cut));
      if (right == parts.id_of_symbol.end()) continue;
      parts.bpe.add_merge(left->second, right->second, static_cast<int32_t>(rank), order[i]);
    }
  }
  return {};
}

}  // namespace hearth
