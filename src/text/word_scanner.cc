// Each alternative of the expressions is a function that returns the end of its match, or `none`; the first that
// matches wins.
#include "text/word_scanner.h"

#include <algorithm>
#include <array>

#include "text/unicode.h"
#include "text/utf8.h"

namespace hearth {
namespace {

using Contractions = WordPattern::Contractions;
using Letters = WordPattern::Letters;

constexpr size_t none = std::string_view::npos;

constexpr std::string_view kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kGpt4o =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

struct KnownRegex {
  std::string_view regex;
  const WordPattern& pattern;
};
constexpr KnownRegex kKnownRegexes[] = {{kGpt2, kGpt2Words},     {kLlama3, kLlama3Words}, {kQwen2, kQwen2Words},
                                        {kQwen35, kQwen35Words}, {kGpt4o, kGpt4oWords},   {kTekken, kTekkenWords}};

bool is_newline(char32_t c) { return c == '\r' || c == '\n'; }

class Scanner {
 public:
  Scanner(const WordPattern& pattern, std::string_view text) : pattern_(pattern), text_(text) {}

  size_t word_end(size_t at) const {
    size_t end = none;
    if (pattern_.contractions == Contractions::kSmall || pattern_.contractions == Contractions::kAnyCase) {
      end = contraction(at);
    }
    if (end == none) end = letters(at);
    if (end == none) end = digits(at);
    if (end == none) end = punctuation(at);
    if (end == none) end = spaces(at);
    return end;
  }

 private:
  struct Char {
    char32_t value;
    Category category;
    size_t end;  // the offset after it
  };
  // At the end of the text: a character of no class, ending where it begins.
  Char read(size_t at) const {
    if (at >= text_.size()) return {0, Category::kOther, at};
    const CodePoint c = read_utf8(text_, at);
    return {c.value, category(c.value), at + c.length};
  }
  size_t run(size_t at, auto&& belongs) const {
    while (at < text_.size()) {
      const Char c = read(at);
      if (!belongs(c)) break;
      at = c.end;
    }
    return at;
  }
  size_t after_space(size_t at) const { return at < text_.size() && text_[at] == ' ' ? at + 1 : at; }
  static size_t unless_empty(size_t begin, size_t end) { return end > begin ? end : none; }

  // 's 't 're 've 'm 'll 'd
  size_t contraction(size_t at) const {
    if (text_[at] != '\'') return none;
    const bool any_case = pattern_.contractions != Contractions::kSmall;
    const auto small = [&](char c) { return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
    const char a = at + 1 < text_.size() ? small(text_[at + 1]) : '\0';
    const char b = at + 2 < text_.size() ? small(text_[at + 2]) : '\0';
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return at + 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return at + 3;
    if (any_case && text_.substr(at + 1).starts_with("\u017F")) return at + 3;  // the long s is an s without case
    return none;
  }

  size_t letters(size_t at) const {
    if (pattern_.letters == Letters::kSpaced) {
      const size_t begin = after_space(at);
      return unless_empty(begin, run(begin, [](const Char& c) { return is_letter(c.category); }));
    }
    const Char first = read(at);
    const bool prefix = !is_newline(first.value) && !is_letter(first.category) && first.category != Category::kNumber;
    // A mark may be the prefix or the first of a run. As a prefix of capitals alone, being a run comes first.
    size_t end = prefix ? letter_run(first.end, first.category == Category::kMark) : none;
    if (end == none) end = letter_run(at, false);
    return end;
  }
  size_t letter_run(size_t at, bool needs_small) const {
    if (pattern_.letters == Letters::kCased) return cased_run(at, needs_small);
    const bool marks = pattern_.letters == Letters::kMarked;
    return unless_empty(
        at, run(at, [&](const Char& c) { return is_letter(c.category) || (marks && c.category == Category::kMark); }));
  }
  // [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+, or failing that [\p{Lu}..]+; and a contraction.
  size_t cased_run(size_t at, bool needs_small) const {
    const auto small = [](Category c) {
      return c == Category::kLower || c == Category::kModifier || c == Category::kOtherLetter || c == Category::kMark;
    };
    size_t last_small_end = none;  // a character of the first run that the second could take
    size_t end = run(at, [&](const Char& c) {
      if (c.category == Category::kLower || !(is_letter(c.category) || c.category == Category::kMark)) return false;
      if (small(c.category)) last_small_end = c.end;
      return true;
    });
    const size_t capitals_end = end;
    end = run(end, [&](const Char& c) { return small(c.category); });
    if (end == capitals_end) {
      if (last_small_end != none) {
        end = last_small_end;
      } else if (needs_small) {
        return none;
      }
    }
    if (end == at) return none;
    if (pattern_.contractions == Contractions::kSuffix && end < text_.size()) {
      const size_t suffix = contraction(end);
      if (suffix != none) end = suffix;
    }
    return end;
  }

  size_t digits(size_t at) const {
    const size_t begin = pattern_.max_digits == 0 ? after_space(at) : at;
    int count = 0;
    return unless_empty(begin, run(begin, [&](const Char& c) {
                          return c.category == Category::kNumber &&
                                 (pattern_.max_digits == 0 || count++ < pattern_.max_digits);
                        }));
  }

  size_t punctuation(size_t at) const {
    const size_t begin = after_space(at);
    const size_t end = run(begin, [&](const Char& c) {
      return !is_space(c.value) && !is_letter(c.category) && c.category != Category::kNumber &&
             !(pattern_.letters == Letters::kMarked && c.category == Category::kMark);
    });
    if (end == begin) return none;
    const size_t tail = text_.find_first_not_of(pattern_.punctuation_end, end);
    return tail == none ? text_.size() : tail;
  }

  // \s*[\r\n]+|\s+(?!\S)|\s+
  size_t spaces(size_t at) const {
    size_t newline_end = none;
    const size_t end = run(at, [&](const Char& c) {
      if (!is_space(c.value)) return false;
      if (is_newline(c.value)) newline_end = c.end;
      return true;
    });
    if (pattern_.newline_runs && newline_end != none) return newline_end;
    if (end == text_.size()) return end;
    // The last one belongs to the word that follows, unless it is the only one.
    size_t before_last = end - 1;
    while (before_last > at && (text_[before_last] & 0xC0) == 0x80) --before_last;
    return before_last > at ? before_last : end;
  }

  const WordPattern& pattern_;
  std::string_view text_;
};

}  // namespace

const WordPattern* known_word_pattern(std::string_view regex) {
  for (const KnownRegex& known : kKnownRegexes) {
    if (known.regex == regex) return &known.pattern;
  }
  return nullptr;
}

size_t word_end(const WordPattern& pattern, std::string_view text, size_t begin) {
  const size_t end = Scanner(pattern, text).word_end(begin);
  // Every character belongs to some alternative; should one not, it stands alone.
  return end == none || end == begin ? begin + read_utf8(text, begin).length : end;
}

}  // namespace hearth
