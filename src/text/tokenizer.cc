// Runs what the makers assembled: control tokens out first, then rewrite, split and merge what lies between.
#include "text/tokenizer.h"

#include <algorithm>

#include "text/tokenizer_parts.h"
#include "text/utf8.h"

namespace hearth {
namespace {

using Parts = TokenizerParts;

// Far above any context window, and where 32-bit positions inside a piece are safe.
constexpr size_t kMaxTextBytes = size_t{1} << 30;

// The first symbols of a piece. A character without any token is dropped, as the reference does.
std::vector<int32_t> symbols_of(const Parts& parts, std::string_view piece) {
  std::vector<int32_t> symbols;
  symbols.reserve(piece.size());
  const auto push_bytes = [&](std::string_view bytes) {
    for (const char c : bytes) {
      if (const int32_t id = parts.id_of_byte[static_cast<unsigned char>(c)]; id >= 0) symbols.push_back(id);
    }
  };
  if (parts.byte_symbols) {
    push_bytes(piece);
    return symbols;
  }
  bool after_unknown = false;
  for (size_t at = 0; at < piece.size();) {
    const std::string_view character = piece.substr(at, read_utf8(piece, at).length);
    at += character.size();
    const bool was_unknown = std::exchange(after_unknown, false);
    if (const auto found = parts.id_of_symbol.find(std::string(character)); found != parts.id_of_symbol.end()) {
      symbols.push_back(found->second);
    } else if (std::ranges::all_of(character, [&](unsigned char c) { return parts.id_of_byte[c] >= 0; })) {
      push_bytes(character);
    } else if (parts.unknown) {
      if (!was_unknown || !parts.fuse_unknown) symbols.push_back(*parts.unknown);
      after_unknown = true;
    }
  }
  return symbols;
}

Status encode_plain(const Parts& parts, const std::string& text, WorkBudget& budget, std::vector<int32_t>& ids) {
  HEARTH_ASSIGN(const auto pieces, pre_tokenize(parts.splitters, text, budget));
  for (const std::string_view piece : pieces) {
    if (parts.whole_pieces_first) {
      if (const auto found = parts.id_of_symbol.find(std::string(piece)); found != parts.id_of_symbol.end()) {
        ids.push_back(found->second);
        continue;
      }
    }
    auto symbols = symbols_of(parts, piece);
    parts.bpe.apply(symbols);
    ids.insert(ids.end(), symbols.begin(), symbols.end());
  }
  return {};
}

Status encode_text(const Parts& parts, std::string_view text, const AddedTokens::IsText& is_text,
                   std::vector<int32_t>& ids) {
  if (text.size() > kMaxTextBytes) return invalid("text longer than ", kMaxTextBytes, " bytes");
  if (!valid_utf8(text)) return invalid("text is not valid UTF-8");
  const auto never = [](size_t, size_t, const AddedToken&) { return false; };
  WorkBudget budget(text.size());
  HEARTH_ASSIGN(const auto sections, parts.added.split(text, is_text, budget));
  for (const auto& section : sections) {
    if (section.id != AddedTokens::kText) {
      ids.push_back(section.id);
      continue;
    }
    HEARTH_ASSIGN(const std::string rewritten,
                  rewrite(parts.rewrites, std::string(text.substr(section.begin, section.end - section.begin)),
                          section.begin == 0, budget));
    HEARTH_ASSIGN(const auto rewritten_sections, parts.added_after_rewrite.split(rewritten, never, budget));
    for (const auto& part : rewritten_sections) {
      if (part.id != AddedTokens::kText) {
        ids.push_back(part.id);
        continue;
      }
      HEARTH_ASSIGN(const std::string plain,
                    rewrite(parts.piece_rewrites, rewritten.substr(part.begin, part.end - part.begin),
                            section.begin == 0 && part.begin == 0, budget));
      HEARTH_TRY(encode_plain(parts, plain, budget, ids));
    }
  }
  return {};
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<TokenizerParts> parts) : parts_(std::move(parts)) {}
Tokenizer::~Tokenizer() = default;

Result<std::vector<int32_t>> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  std::vector<int32_t> ids;
  if (options.add_special) ids = parts_->prefix;
  HEARTH_TRY(encode_text(
      *parts_, text, [&](size_t, size_t, const AddedToken& token) { return token.special && !options.parse_special; },
      ids));
  if (options.add_special) ids.insert(ids.end(), parts_->suffix.begin(), parts_->suffix.end());
  return ids;
}

Result<std::vector<int32_t>> Tokenizer::encode_rendered(const RenderedPrompt& prompt) const {
  const auto& ranges = prompt.from_request;
  const auto touches_request = [&](size_t begin, size_t end) {
    const auto range = std::ranges::upper_bound(ranges, begin, {}, &ByteRange::end);
    return range != ranges.end() && range->begin < end;
  };
  std::vector<int32_t> ids;
  HEARTH_TRY(encode_text(
      *parts_, prompt.text,
      [&](size_t begin, size_t end, const AddedToken& token) { return token.special && touches_request(begin, end); },
      ids));
  return ids;
}

std::string Tokenizer::decode(const std::vector<int32_t>& ids, bool skip_special) const {
  std::string bytes;
  for (const int32_t id : ids) {
    if (!skip_special || !is_special(id)) bytes.append(token_bytes(id));
  }
  if (parts_->strip_leading_space && bytes.starts_with(' ')) bytes.erase(0, 1);
  return replace_broken_utf8(bytes);
}

std::string_view Tokenizer::token_bytes(int32_t id) const {
  return id < 0 || id >= vocab_size() ? std::string_view() : parts_->tokens[static_cast<size_t>(id)].bytes;
}

std::string_view Tokenizer::token_text(int32_t id) const {
  return id < 0 || id >= vocab_size() ? std::string_view() : parts_->tokens[static_cast<size_t>(id)].text;
}

std::optional<int32_t> Tokenizer::token_id(std::string_view text) const {
  const auto found = parts_->id_of_text.find(std::string(text));
  if (found == parts_->id_of_text.end()) return std::nullopt;
  return found->second;
}

int64_t Tokenizer::vocab_size() const { return static_cast<int64_t>(parts_->tokens.size()); }
std::optional<int32_t> Tokenizer::bos() const { return parts_->bos; }
std::optional<int32_t> Tokenizer::eos() const { return parts_->eos; }

const std::vector<std::pair<std::string, std::string>>& Tokenizer::names() const { return parts_->names; }

bool Tokenizer::is_special(int32_t id) const {
  return id >= 0 && id < vocab_size() && parts_->tokens[static_cast<size_t>(id)].special;
}

std::vector<std::pair<size_t, int32_t>> Tokenizer::find_special(std::string_view text) const {
  std::vector<std::pair<size_t, int32_t>> found;
  WorkBudget budget(text.size());
  const auto sections = parts_->added.split(
      text, [](size_t, size_t, const AddedToken& token) { return !token.special; }, budget);
  if (!sections.ok()) return found;
  for (const auto& section : *sections) {
    if (section.id == AddedTokens::kText) continue;
    // A token may take the white space around it along.
    const size_t begin = text.find(token_text(section.id), section.begin);
    if (begin < section.end) found.emplace_back(begin, section.id);
  }
  return found;
}

bool Tokenizer::strips_leading_space() const { return parts_->strip_leading_space; }

}  // namespace hearth
