// A trie walk at each place where a token can begin.
#include "text/added_tokens.h"

#include "text/unicode.h"
#include "text/utf8.h"

namespace hearth {
namespace {

// The character that ends before `end`; end > 0.
CodePoint read_before(std::string_view text, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && end - begin < 4 && (text[begin] & 0xC0) == 0x80) --begin;
  return read_utf8(text, begin);
}

bool is_word(char32_t c) {
  const Category kind = category(c);
  return is_letter(kind) || kind == Category::kNumber || kind == Category::kMark || c == '_';
}

}  // namespace

Status AddedTokens::add(AddedToken token) {
  if (token.text.empty()) return {};
  if (token_of_node_.size() + token.text.size() > kMaxNodes) {
    return invalid("added tokens longer than ", kMaxNodes, " bytes together");
  }
  starts_[static_cast<unsigned char>(token.text[0])] = true;
  uint64_t node = 0;
  for (const char c : token.text) {
    const auto fresh = static_cast<uint32_t>(token_of_node_.size());
    const auto [edge, inserted] = edges_.try_emplace(node << 8 | static_cast<unsigned char>(c), fresh);
    if (inserted) token_of_node_.push_back(-1);
    node = edge->second;
  }
  token_of_node_[node] = static_cast<int32_t>(tokens_.size());
  tokens_.push_back(std::move(token));
  return {};
}

const AddedToken* AddedTokens::longest(std::string_view text, size_t at, int64_t& steps) const {
  if (!starts_[static_cast<unsigned char>(text[at])]) return nullptr;
  int32_t found = -1;
  uint64_t node = 0;
  for (size_t i = at; i < text.size(); ++i) {
    const auto edge = edges_.find(node << 8 | static_cast<unsigned char>(text[i]));
    if (edge == edges_.end()) break;
    ++steps;
    node = edge->second;
    if (token_of_node_[node] >= 0) found = token_of_node_[node];
  }
  return found < 0 ? nullptr : &tokens_[static_cast<size_t>(found)];
}

Result<std::vector<AddedTokens::Part>> AddedTokens::split(std::string_view text, const IsText& is_text,
                                                          WorkBudget& budget) const {
  std::vector<Part> parts;
  size_t text_begin = 0;
  for (size_t at = 0; at < text.size();) {
    int64_t steps = 0;
    const AddedToken* token = longest(text, at, steps);
    if (!budget.spend_steps(steps)) return WorkBudget::too_many_steps();
    if (token == nullptr) {
      ++at;
      continue;
    }
    size_t begin = at, end = at + token->text.size();
    at = end;
    const bool inside_word = (begin > 0 && is_word(read_before(text, begin).value)) ||
                             (end < text.size() && is_word(read_utf8(text, end).value));
    if ((token->single_word && inside_word) || is_text(begin, end, *token)) continue;
    if (token->strip_left) {
      while (begin > text_begin && is_space(read_before(text, begin).value)) begin -= read_before(text, begin).length;
    }
    if (token->strip_right) {
      while (end < text.size() && is_space(read_utf8(text, end).value)) end += read_utf8(text, end).length;
    }
    if (text_begin < begin) parts.push_back({text_begin, begin, kText});
    parts.push_back({begin, end, token->id});
    text_begin = at = end;
  }
  if (text_begin < text.size()) parts.push_back({text_begin, text.size(), kText});
  return parts;
}

}  // namespace hearth
