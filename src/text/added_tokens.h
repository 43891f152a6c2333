// Tokens that are recognised in a text before it is split and merged: control tokens and whole words added to a
// vocabulary.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "text/work_budget.h"

namespace hearth {

struct AddedToken {
  int32_t id = 0;
  std::string text;
  bool special = false;
  bool strip_left = false, strip_right = false;  // takes the white space around it along
  bool single_word = false;                      // not inside a word
};

class AddedTokens {
 public:
  // A stretch of text, or a token in its place.
  struct Part {
    size_t begin, end;
    int32_t id;  // kText for text
  };
  static constexpr int32_t kText = -1;

  Status add(AddedToken token);  // refuses more than kMaxNodes characters in all
  bool empty() const { return tokens_.empty(); }
  // Cuts the text at the tokens, leftmost first, the longest of those at one place. Where `is_text(begin, end, token)`
  // says so, a token's spelling is ordinary text.
  using IsText = std::function<bool(size_t begin, size_t end, const AddedToken& token)>;
  Result<std::vector<Part>> split(std::string_view text, const IsText& is_text, WorkBudget& budget) const;

 private:
  // The longest token at `at`, or null; `steps` counts the nodes visited.
  const AddedToken* longest(std::string_view text, size_t at, int64_t& steps) const;

  static constexpr size_t kMaxNodes = size_t{1} << 22;
  // A trie: nodes are numbers, 0 the root; the key is node << 8 | byte.
  std::unordered_map<uint64_t, uint32_t> edges_;
  std::vector<int32_t> token_of_node_{-1};  // index into tokens_, -1 none
  bool starts_[256] = {};
  std::vector<AddedToken> tokens_;
};

}  // namespace hearth
