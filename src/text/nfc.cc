// Decompose, order the marks, compose (Unicode Standard, 3.11); Hangul syllables by arithmetic.
#include "text/nfc.h"

#include <algorithm>
#include <iterator>
#include <unordered_map>
#include <vector>

#include "text/utf8.h"

namespace hearth {
namespace {

struct Decomposition {
  char32_t whole, first, second;
  bool composes;
};
constexpr Decomposition kDecompositions[] = {
#include "text/unicode_nfc.inc"
};
constexpr uint32_t kCombining[] = {
#include "text/unicode_combining.inc"
};

constexpr char32_t kHangul = 0xAC00, kLeading = 0x1100, kVowel = 0x1161, kTrailing = 0x11A7;
constexpr char32_t kLeadings = 19, kVowels = 21, kTrailings = 28, kSyllables = kLeadings * kVowels * kTrailings;

uint8_t combining_class(char32_t c) {
  const auto after =
      std::upper_bound(std::begin(kCombining), std::end(kCombining), static_cast<uint32_t>(c) << 8 | 0xFF);
  return static_cast<uint8_t>(*(after - 1));
}

// At most four levels deep.
void decompose(char32_t c, std::vector<char32_t>& out) {
  if (c >= kHangul && c < kHangul + kSyllables) {
    const char32_t index = c - kHangul;
    out.push_back(kLeading + index / (kVowels * kTrailings));
    out.push_back(kVowel + index / kTrailings % kVowels);
    if (index % kTrailings != 0) out.push_back(kTrailing + index % kTrailings);
    return;
  }
  const auto* found = std::ranges::lower_bound(kDecompositions, c, {}, &Decomposition::whole);
  if (found == std::end(kDecompositions) || found->whole != c) {
    out.push_back(c);
    return;
  }
  decompose(found->first, out);
  if (found->second != 0) decompose(found->second, out);
}

// 0 where the two do not compose.
char32_t compose(char32_t first, char32_t second) {
  static const auto table = [] {
    std::unordered_map<uint64_t, char32_t> out;
    for (const auto& entry : kDecompositions) {
      if (entry.composes) out.emplace(static_cast<uint64_t>(entry.first) << 32 | entry.second, entry.whole);
    }
    return out;
  }();
  if (first >= kLeading && first < kLeading + kLeadings && second >= kVowel && second < kVowel + kVowels) {
    return kHangul + ((first - kLeading) * kVowels + second - kVowel) * kTrailings;
  }
  if (first >= kHangul && first < kHangul + kSyllables && (first - kHangul) % kTrailings == 0 && second > kTrailing &&
      second < kTrailing + kTrailings) {
    return first + second - kTrailing;
  }
  const auto found = table.find(static_cast<uint64_t>(first) << 32 | second);
  return found == table.end() ? 0 : found->second;
}

}  // namespace

std::string to_nfc(std::string_view text) {
  // Nothing below U+0300 combines or decomposes into something else than it composes to.
  bool changes = false;
  std::vector<char32_t> characters;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = read_utf8(text, at);
    changes |= c.value >= 0x300;
    decompose(c.value, characters);
    at += c.length;
  }
  if (!changes) return std::string(text);

  std::vector<uint8_t> ranks(characters.size());
  std::ranges::transform(characters, ranks.begin(), combining_class);
  for (size_t begin = 0; begin < characters.size();) {
    size_t end = begin + 1;
    if (ranks[begin] != 0) {
      while (end < characters.size() && ranks[end] != 0) ++end;
      std::vector<std::pair<uint8_t, char32_t>> marks;
      for (size_t i = begin; i < end; ++i) marks.emplace_back(ranks[i], characters[i]);
      std::ranges::stable_sort(marks, {}, &std::pair<uint8_t, char32_t>::first);
      for (size_t i = begin; i < end; ++i) std::tie(ranks[i], characters[i]) = marks[i - begin];
    }
    begin = end;
  }

  std::vector<char32_t> out;
  size_t starter = SIZE_MAX;  // index in out of the last character of class 0
  int last_rank = -1;         // of the character before, if it stayed after the starter
  for (size_t i = 0; i < characters.size(); ++i) {
    if (starter != SIZE_MAX && last_rank < ranks[i]) {
      if (const char32_t whole = compose(out[starter], characters[i]); whole != 0) {
        out[starter] = whole;
        continue;
      }
    }
    if (ranks[i] == 0) {
      starter = out.size();
      last_rank = -1;
    } else {
      last_rank = ranks[i];
    }
    out.push_back(characters[i]);
  }
  std::string composed;
  for (const char32_t c : out) append_utf8(composed, c);
  return composed;
}

}  // namespace hearth
