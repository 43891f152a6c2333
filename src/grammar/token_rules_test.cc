#include "grammar/token_rules.h"

#include <gtest/gtest.h>

namespace hearth {
namespace {

constexpr int64_t kVocab = 70;

std::vector<int32_t> allowed(Constraint& constraint) {
  std::vector<int32_t> mask(static_cast<size_t>(Constraint::mask_words(kVocab)), 0x5555);
  EXPECT_TRUE(constraint.fill_mask(mask));
  std::vector<int32_t> out;
  for (int32_t t = 0; t < kVocab; ++t) {
    if (static_cast<uint32_t>(mask[static_cast<size_t>(t / 32)]) >> (t % 32) & 1) out.push_back(t);
  }
  return out;
}

TEST(TokenRules, AllowedTokensAlone) {
  const auto grammar = make_token_rules({.allowed = {0, 31, 32, 69, 31}, .bad_words = {}}, kVocab);
  EXPECT_FALSE(grammar->says_where_to_end());
  const auto constraint = grammar->start();
  EXPECT_EQ(allowed(*constraint), (std::vector<int32_t>{0, 31, 32, 69}));
  EXPECT_TRUE(constraint->accept(69));
  EXPECT_FALSE(constraint->accept(1));
  EXPECT_EQ(allowed(*constraint), (std::vector<int32_t>{0, 31, 32, 69}));
  EXPECT_TRUE(constraint->jump_ahead().empty());
}

TEST(TokenRules, ABadWordsLastTokenMayNotFollowItsOthers) {
  const auto grammar =
      make_token_rules({.allowed = {1, 2, 3, 4}, .bad_words = {{4}, {1, 2}, {1, 2, 3}, {3, 1, 3}}}, kVocab);
  const auto a = grammar->start(), b = grammar->start();
  EXPECT_EQ(allowed(*a), (std::vector<int32_t>{1, 2, 3}));
  EXPECT_TRUE(a->accept(3));
  EXPECT_EQ(allowed(*a), (std::vector<int32_t>{1, 2, 3}));
  EXPECT_TRUE(a->accept(1));
  EXPECT_EQ(allowed(*a), (std::vector<int32_t>{1})) << "1 2 and 3 1 3 are bad";
  EXPECT_FALSE(a->accept(2));
  EXPECT_EQ(allowed(*a), (std::vector<int32_t>{1})) << "what was refused changed nothing";
  EXPECT_TRUE(a->accept(1));
  EXPECT_EQ(allowed(*a), (std::vector<int32_t>{1, 3})) << "1 2 is bad, 3 1 was not just said";
  EXPECT_EQ(allowed(*b), (std::vector<int32_t>{1, 2, 3})) << "another sequence";
}

// Even tokens, and 7 ends; the text may end behind the second.
class Evens final : public Grammar {
 public:
  std::unique_ptr<Constraint> start() const override {
    class Follower final : public Constraint {
      bool fill_mask(std::span<int32_t> mask) override {
        std::ranges::fill(mask, 0x55555555);
        if (count_ >= 2) mask[0] |= 1 << 7;
        return true;
      }
      bool accept(int32_t token) override {
        if (token % 2 != 0 && (token != 7 || count_ < 2)) return false;
        ++count_;
        return true;
      }
      std::vector<int32_t> jump_ahead() override { return {2}; }
      int count_ = 0;
    };
    return std::make_unique<Follower>();
  }
  int64_t bytes() const override { return 1; }
};

TEST(TokenRules, BothHoldBesideAnotherGrammar) {
  const auto grammar = make_token_rules({.allowed = {1, 2, 4, 6}, .bad_words = {{2, 4}}, .end_tokens = {7}}, kVocab,
                                        std::make_shared<Evens>());
  EXPECT_TRUE(grammar->says_where_to_end());
  EXPECT_TRUE(grammar->may_run_dry());
  const auto constraint = grammar->start();
  EXPECT_EQ(allowed(*constraint), (std::vector<int32_t>{2, 4, 6}));
  EXPECT_FALSE(constraint->accept(1)) << "the other grammar's";
  EXPECT_FALSE(constraint->accept(8)) << "the rules'";
  EXPECT_TRUE(constraint->accept(2));
  EXPECT_TRUE(constraint->jump_ahead().empty());
  EXPECT_EQ(allowed(*constraint), (std::vector<int32_t>{2, 6}));
  EXPECT_FALSE(constraint->accept(4));
  EXPECT_TRUE(constraint->accept(6));
  EXPECT_EQ(allowed(*constraint), (std::vector<int32_t>{2, 4, 6, 7}));
  EXPECT_TRUE(constraint->accept(7));
}

TEST(TokenRules, EverythingElseWhereNothingIsListed) {
  const auto constraint = make_token_rules({.allowed = {}, .bad_words = {{5}}}, kVocab)->start();
  EXPECT_EQ(allowed(*constraint).size(), static_cast<size_t>(kVocab - 1));
}

}  // namespace
}  // namespace hearth
