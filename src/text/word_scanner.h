// The word-splitting regular expressions of the GPT family as one linear scanner: GPT-2's, Llama 3's, Qwen's, GPT-4o's
// and Mistral's Tekken differ only in the choices below.
#pragma once

#include <cstddef>
#include <string_view>

namespace hearth {

struct WordPattern {
  enum class Contractions { kNone, kSmall, kAnyCase, kSuffix };  // 's|'t|...: as a word, or after one
  enum class Letters {
    kSpaced,    // " ?\p{L}+"
    kPrefixed,  // "[^\r\n\p{L}\p{N}]?\p{L}+"
    kMarked,    // "[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+", and marks are no punctuation
    kCased,     // small letters end a word: "...?[\p{Lu}..]*[\p{Ll}..]+|...?[\p{Lu}..]+[\p{Ll}..]*"
  };
  Contractions contractions = Contractions::kSmall;
  Letters letters = Letters::kSpaced;
  int max_digits = 0;                     // "\p{N}{1,max_digits}"; 0 is " ?\p{N}+"
  std::string_view punctuation_end = {};  // characters that follow punctuation into its piece
  bool newline_runs = false;              // "\s*[\r\n]+"
};

inline constexpr WordPattern kGpt2Words{};
inline constexpr WordPattern kLlama3Words{WordPattern::Contractions::kAnyCase, WordPattern::Letters::kPrefixed, 3,
                                          "\r\n", true};
inline constexpr WordPattern kQwen2Words{WordPattern::Contractions::kAnyCase, WordPattern::Letters::kPrefixed, 1,
                                         "\r\n", true};
inline constexpr WordPattern kQwen35Words{WordPattern::Contractions::kAnyCase, WordPattern::Letters::kMarked, 1, "\r\n",
                                          true};
inline constexpr WordPattern kGpt4oWords{WordPattern::Contractions::kSuffix, WordPattern::Letters::kCased, 3, "\r\n/",
                                         true};
inline constexpr WordPattern kTekkenWords{WordPattern::Contractions::kNone, WordPattern::Letters::kCased, 1, "\r\n/",
                                          true};

// The pattern that a regular expression stands for; null unless it is one of the above.
const WordPattern* known_word_pattern(std::string_view regex);

// Where the word that begins at `begin` ends; begin < text.size().
size_t word_end(const WordPattern& pattern, std::string_view text, size_t begin);

}  // namespace hearth
