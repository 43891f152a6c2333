// A fixed mask, minus the last tokens of words whose others were just generated.
#include "grammar/token_rules.h"

#include <algorithm>
#include <functional>

namespace hearth {
namespace {

struct Rules {
  std::vector<int32_t> mask;                    // before any word is taken out
  std::vector<std::vector<int32_t>> bad_words;  // of two tokens and more
  size_t longest = 0;
  std::shared_ptr<const Grammar> beside;  // or none
};

void set(std::span<int32_t> mask, int32_t token, bool allowed) {
  int32_t& word = mask[static_cast<size_t>(token / 32)];
  const auto bit = static_cast<int32_t>(1u << (token % 32));
  word = allowed ? word | bit : word & ~bit;
}

class Follower final : public Constraint {
 public:
  explicit Follower(std::shared_ptr<const Rules> rules)
      : rules_(std::move(rules)), beside_(rules_->beside ? rules_->beside->start() : nullptr) {}

  bool fill_mask(std::span<int32_t> mask) override {
    if (beside_ && beside_->fill_mask(mask)) {
      std::ranges::transform(mask, rules_->mask, mask.begin(), std::bit_and<>());
    } else {
      std::ranges::copy(rules_->mask, mask.begin());
    }
    for (const auto& word : rules_->bad_words) {
      if (follows(word)) set(mask, word.back(), false);
    }
    return true;
  }

  bool accept(int32_t token) override {
    if (!allowed(token) || (beside_ && !beside_->accept(token))) return false;
    last_.push_back(token);
    if (last_.size() >= rules_->longest) last_.erase(last_.begin());
    return true;
  }

  // What the other grammar would take at once may be forbidden here: each token is drawn.
  std::vector<int32_t> jump_ahead() override { return {}; }

 private:
  // Whether all of a word but its last token was just generated.
  bool follows(const std::vector<int32_t>& word) const {
    const size_t size = word.size() - 1;
    return last_.size() >= size && std::equal(word.begin(), word.end() - 1, last_.end() - static_cast<ptrdiff_t>(size));
  }
  bool allowed(int32_t token) const {
    if ((static_cast<uint32_t>(rules_->mask[static_cast<size_t>(token / 32)]) >> (token % 32) & 1) == 0) return false;
    return std::ranges::none_of(rules_->bad_words,
                                [&](const auto& word) { return word.back() == token && follows(word); });
  }

  const std::shared_ptr<const Rules> rules_;
  const std::unique_ptr<Constraint> beside_;
  std::vector<int32_t> last_;  // as many as the longest word has before its last
};

class RulesGrammar final : public Grammar {
 public:
  explicit RulesGrammar(std::shared_ptr<const Rules> rules) : rules_(std::move(rules)) {}
  std::unique_ptr<Constraint> start() const override { return std::make_unique<Follower>(rules_); }
  int64_t bytes() const override {
    int64_t bytes = std::ssize(rules_->mask) * 4;
    for (const auto& word : rules_->bad_words) bytes += std::ssize(word) * 4;
    return bytes;
  }
  bool says_where_to_end() const override { return rules_->beside && rules_->beside->says_where_to_end(); }
  bool may_run_dry() const override { return true; }

 private:
  const std::shared_ptr<const Rules> rules_;
};

}  // namespace

std::shared_ptr<const Grammar> make_token_rules(TokenRules rules, int64_t vocab_size,
                                                std::shared_ptr<const Grammar> beside) {
  auto out = std::make_shared<Rules>();
  out->mask.assign(static_cast<size_t>(Constraint::mask_words(vocab_size)), rules.allowed.empty() ? -1 : 0);
  for (const int32_t token : rules.allowed) set(out->mask, token, true);
  for (auto& word : rules.bad_words) {
    if (word.size() == 1) set(out->mask, word[0], false);
    out->longest = std::max(out->longest, word.size());
    if (word.size() > 1) out->bad_words.push_back(std::move(word));
  }
  if (beside) {
    for (const int32_t token : rules.end_tokens) set(out->mask, token, true);
  }
  out->beside = std::move(beside);
  return std::make_shared<RulesGrammar>(std::move(out));
}

}  // namespace hearth
