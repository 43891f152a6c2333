// Unicode classes of code points, as the regular expressions of tokenizers use them.
#pragma once

#include <cstdint>

namespace hearth {

enum class Category : uint8_t {
  kOther,
  kUpper,
  kLower,
  kTitle,
  kModifier,
  kOtherLetter,
  kMark,
  kNumber,
  kPunctuation,
  kSymbol,
};

Category category(char32_t c);

inline bool is_letter(Category c) { return c >= Category::kUpper && c <= Category::kOtherLetter; }

// White_Space, which is what \s is in these expressions.
inline bool is_space(char32_t c) {
  return c == ' ' || (c >= '\t' && c <= '\r') ||
         (c >= 0x85 && (c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
                        c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000));
}

}  // namespace hearth
