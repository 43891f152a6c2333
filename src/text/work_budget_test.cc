#include "text/work_budget.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "text/added_tokens.h"
#include "text/normalizer.h"
#include "text/regex.h"
#include "text/token_names.h"
#include "text/tokenizer.h"

namespace hearth {
namespace {

// Matches the whole text, as a Split does; how many there were.
Result<size_t> count_matches(std::string_view pattern, std::string_view text) {
  HEARTH_ASSIGN(const Regex regex, Regex::compile(pattern));
  WorkBudget budget(text.size());
  size_t count = 0;
  for (size_t at = 0; at < text.size(); ++count) {
    HEARTH_ASSIGN(const auto match, regex.find(text, at, budget));
    if (match.begin == match.end) break;
    at = match.end;
  }
  return count;
}

TEST(WorkBudget, RegexStepsAreCountedOverAllMatches) {
  const std::string text(40'000, 'a');
  // Each looks ahead, or fails, over all of the rest, at each of its characters.
  for (const char* pattern : {"a(?=.*b)", "a(?=.*+)", "a*b|a", "a(?=[^z]*)", "(?:(?=.*)a)+", "a(?!.*z)", "(?>a+)b|a"}) {
    const auto matches = count_matches(pattern, text);
    ASSERT_FALSE(matches.ok()) << pattern;
    EXPECT_EQ(matches.status().message(), WorkBudget::too_many_steps().message());
    EXPECT_TRUE(count_matches(pattern, text.substr(0, 500)).ok()) << pattern;
  }
}

TEST(WorkBudget, RealPatternsHaveRoomOnLongRuns) {
  // DeepSeek's, and one that looks ahead over digits.
  constexpr const char* kWords =
      "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
      "?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
  EXPECT_EQ(*count_matches(kWords, std::string(1'000'000, 'x')), 1u);
  EXPECT_EQ(*count_matches(kWords, std::string(1'000'000, '\n')), 1u);
  EXPECT_EQ(*count_matches(kWords, std::string(1'000'000, ' ') + "x"), 2u);
  EXPECT_EQ(*count_matches("\\p{N}{1,3}(?=(?:\\p{N}{3})*(?:\\P{N}|$))", std::string(3000, '1')), 1000u);
}

TEST(WorkBudget, ExpressionsWhoseStepsWouldNotBeSeenAreRefused) {
  for (const char* pattern : {"(?<a>x*)\\k<a>", "[^z]{60000}", "x{2,1001}", "(x{1,1000})+y{4294967296}"}) {
    EXPECT_FALSE(Regex::compile(pattern).ok()) << pattern;
  }
  for (const char* pattern : {"x{1,1000}", "[\\x{4E00}-\\x{9FA5}]+", "\\p{Han}{1,3}", "\\{2000\\}"}) {
    EXPECT_TRUE(Regex::compile(pattern).ok()) << pattern;
  }
}

TEST(WorkBudget, NormalizersMayNotMultiplyAText) {
  const std::vector<Rewrite> tenfold(9, {Rewrite::Kind::kReplace, "a", std::string(10, 'a')});
  WorkBudget budget(1);
  const auto text = rewrite(tenfold, "a", true, budget);
  ASSERT_FALSE(text.ok());
  EXPECT_EQ(text.status().message(), WorkBudget::too_long().message());
  // Every piece of a text takes from the same budget.
  const std::vector<Rewrite> prepend(1, {Rewrite::Kind::kPrepend, "", std::string(1000, 'a')});
  WorkBudget pieces(100);
  int done = 0;
  while (done < 100 && rewrite(prepend, "b", true, pieces).ok()) ++done;
  EXPECT_EQ(done, (4096 + 16 * 100) / 1000);
  // A real one: a mark of three bytes for each space.
  const std::vector<Rewrite> marks(1, {Rewrite::Kind::kReplace, " ", "\u2581"});
  WorkBudget spaces(1'000'000);
  EXPECT_EQ(rewrite(marks, std::string(1'000'000, ' '), true, spaces)->size(), 3'000'000u);
}

TEST(WorkBudget, AddedTokensThatNearlyMatchEverywhere) {
  AddedTokens added;
  ASSERT_TRUE(added.add({.id = 0, .text = std::string(4000, 'a') + "b"}).ok());
  const auto never = [](size_t, size_t, const AddedToken&) { return false; };
  WorkBudget budget(100'000);
  EXPECT_FALSE(added.split(std::string(100'000, 'a'), never, budget).ok());
  WorkBudget small(1000);
  EXPECT_TRUE(added.split(std::string(1000, 'a'), never, small).ok());
  Status full;
  for (int i = 0; i < 2000 && full.ok(); ++i) full = added.add({.id = i, .text = cat(i, std::string(4000, 'x'))});
  EXPECT_NE(full.message().find("added tokens longer than"), std::string::npos);
}

TEST(WorkBudget, AFileMayNotListEndlessSteps) {
  const auto file = [](int normalizers, int splits) {
    std::string steps, pieces;
    for (int i = 0; i < normalizers; ++i) steps += cat(i ? "," : "", R"({"type":"NFC"})");
    for (int i = 0; i < splits; ++i) pieces += cat(i ? "," : "", R"({"type":"Digits"})");
    return cat(R"({"normalizer":{"type":"Sequence","normalizers":[)", steps,
               R"(]},"pre_tokenizer":{"type":"Sequence","pretokenizers":[)", pieces,
               R"(]},"model":{"type":"BPE","vocab":{"a":0},"merges":[]}})");
  };
  EXPECT_TRUE(Tokenizer::from_tokenizer_json(file(64, 64), {}).ok());
  EXPECT_FALSE(Tokenizer::from_tokenizer_json(file(65, 1), {}).ok());
  EXPECT_FALSE(Tokenizer::from_tokenizer_json(file(1, 65), {}).ok());
}

}  // namespace
}  // namespace hearth
