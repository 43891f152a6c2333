#include "text/detokenizer.h"

#include <gtest/gtest.h>

#include <random>

namespace hearth {
namespace {

// A SentencePiece-like vocabulary: the bytes as tokens 3 to 258, then a few pieces.
std::unique_ptr<Tokenizer> byte_tokenizer() {
  Vocabulary vocabulary{.model = "llama", .bos = 1, .eos = 2, .unknown = 0, .add_bos = true, .add_space_prefix = true};
  const auto add = [&](std::string text, int32_t type) {
    vocabulary.tokens.push_back(std::move(text));
    vocabulary.scores.push_back(0);
    vocabulary.types.push_back(type);
  };
  add("<unk>", 2);
  add("<s>", 3);
  add("</s>", 3);
  for (int byte = 0; byte < 256; ++byte) {
    const char* digits = "0123456789ABCDEF";
    add(std::string("<0x") + digits[byte / 16] + digits[byte % 16] + ">", 6);
  }
  for (const char* piece : {"\u2581", "\u2581a", "b", "\u2581\u2581", "\u00E9"}) add(piece, 1);
  return std::move(Tokenizer::from_vocabulary(vocabulary)).value();
}

TEST(IncrementalDetokenizer, PiecesJoinToDecodeOfAnyTokens) {
  const auto tokenizer = byte_tokenizer();
  std::mt19937 random(7);
  const std::string_view alphabet[] = {
      "\xF0\x9F\x99\x82", "\xE4\xB8\xAD", "\xC3\xA9", "\xF0\x9F", "\xE4", "\x80", "\xFF", "a", " "};
  for (int round = 0; round < 3000; ++round) {
    std::vector<int32_t> ids;
    for (size_t n = random() % 12; n > 0; --n) {
      if (random() % 4 == 0) {
        ids.push_back(static_cast<int32_t>(random() % static_cast<uint32_t>(tokenizer->vocab_size())));
      } else {
        for (const char c : alphabet[random() % std::size(alphabet)]) ids.push_back(static_cast<unsigned char>(c) + 3);
      }
    }
    for (const bool skip_special : {false, true}) {
      IncrementalDetokenizer detokenizer(*tokenizer, {.skip_special = skip_special});
      std::string joined;
      for (const int32_t id : ids) joined += detokenizer.push(id);
      joined += detokenizer.finish();
      ASSERT_EQ(joined, tokenizer->decode(ids, skip_special));
    }
  }
}

TEST(IncrementalDetokenizer, HalfACharacterWaits) {
  const auto tokenizer = byte_tokenizer();
  IncrementalDetokenizer detokenizer(*tokenizer, {});
  EXPECT_EQ(detokenizer.push(0xF0 + 3), "");
  EXPECT_EQ(detokenizer.push(0x9F + 3), "");
  EXPECT_EQ(detokenizer.push(0x99 + 3), "");
  EXPECT_EQ(detokenizer.push(0x82 + 3), "\U0001F642");
  EXPECT_EQ(detokenizer.push(0xE4 + 3), "");
  EXPECT_EQ(detokenizer.push('a' + 3), "\uFFFDa");
  EXPECT_EQ(detokenizer.push(0xC3 + 3), "");
  EXPECT_EQ(detokenizer.finish(), "\uFFFD");
}

TEST(IncrementalDetokenizer, LeadingSpaceGoesAtTheStartOnly) {
  const auto tokenizer = byte_tokenizer();
  const int32_t a = *tokenizer->token_id("\u2581a");
  IncrementalDetokenizer start(*tokenizer, {}), middle(*tokenizer, {.at_start = false});
  EXPECT_EQ(start.push(a), "a");
  EXPECT_EQ(start.push(a), " a");
  EXPECT_EQ(middle.push(a), " a");
}

TEST(StopMatcher, HoldsBackOnlyWhatMayBecomeAStop) {
  StopMatcher stops({"</end>", "END"});
  EXPECT_EQ(stops.push("one <").text, "one ");
  EXPECT_EQ(stops.push("/e").text, "");
  EXPECT_EQ(stops.push("xE").text, "</ex");
  EXPECT_EQ(stops.push("N").text, "");
  const auto last = stops.push("Dtail");
  EXPECT_TRUE(last.stopped);
  EXPECT_EQ(last.stop, 1u);
  EXPECT_EQ(last.text, "");
  EXPECT_EQ(stops.push("more").text, "");
  EXPECT_EQ(stops.finish(), "");
}

TEST(StopMatcher, OverlapsAndFlush) {
  StopMatcher stops({"aab", ""});
  EXPECT_EQ(stops.push("aaa").text, "a");
  EXPECT_EQ(stops.finish(), "aa");
  StopMatcher longest({"b", "ab"});
  EXPECT_EQ(longest.push("xab").text, "x");
}

// Against the plain definition: cut at the earliest-ending occurrence in the whole text.
TEST(StopMatcher, SameAsSearchingTheWholeText) {
  std::mt19937 random(3);
  const auto word = [&](size_t most) {
    std::string out;
    for (size_t n = 1 + random() % most; n > 0; --n) out += "ab\u00E9"[random() % 4];
    return out;
  };
  for (int round = 0; round < 5000; ++round) {
    const std::vector<std::string> stops = {word(4), word(6)};
    const std::string text = word(30);
    size_t cut = text.size(), end = text.size() + 1;
    for (const auto& stop : stops) {
      const size_t at = text.find(stop);
      if (at != text.npos && (at + stop.size() < end || (at + stop.size() == end && at < cut))) {
        cut = at;
        end = at + stop.size();
      }
    }
    StopMatcher matcher(stops);
    std::string out;
    for (size_t at = 0, n = 0; at < text.size(); at += n) {
      n = 1 + random() % 5;
      out += matcher.push(std::string_view(text).substr(at, n)).text;
    }
    out += matcher.finish();
    ASSERT_EQ(out, text.substr(0, cut));
  }
}

// A text of letters and hidden tokens: stop strings that name a token see it, others do not.
TEST(StopMatcher, HiddenTokensBetweenLetters) {
  const auto tokenizer = byte_tokenizer();
  const int32_t end = *tokenizer->token_id("</s>");
  const auto shown = [&](const std::vector<std::string>& stops, std::string_view text) {
    StopMatcher matcher(stops, tokenizer.get());
    std::string out;
    for (size_t i = 0; i < text.size(); ++i) {
      const auto got = text[i] == '|' ? matcher.push_hidden(end) : matcher.push(text.substr(i, 1));
      out += got.text;
      if (got.stopped) return cat(out, " stopped by ", got.stop);
    }
    return out + matcher.finish();
  };
  EXPECT_EQ(shown({"b</s>"}, "abab|c"), "aba stopped by 0");
  EXPECT_EQ(shown({"x", "b</s>a"}, "abab|ca|b|a"), "ababca stopped by 1");
  EXPECT_EQ(shown({"</s>a", "</s>"}, "b|"), "b stopped by 1");
  EXPECT_EQ(shown({"</s></s>ab"}, "a|a||||abb"), "aa stopped by 0");
  EXPECT_EQ(shown({"ab", "b</s>c"}, "a|b|c"), " stopped by 0");
  EXPECT_EQ(shown({"b</s>c"}, "ab|b"), "abb");
  EXPECT_EQ(shown({"</s"}, "b|<a"), "b<a");
}

TEST(StopMatcher, LinearOnRepetition) {
  StopMatcher stops({std::string(1000, 'a') + "b"});
  std::string out;
  for (int i = 0; i < 1'000'000; ++i) out += stops.push("a").text;
  EXPECT_EQ(out.size() + stops.finish().size(), 1'000'000u);
}

}  // namespace
}  // namespace hearth
