// Python's notion of white space in strings, and trimming by it.
#pragma once

#include <string_view>

#include "text/unicode.h"
#include "text/utf8.h"

namespace hearth::jinja {

inline bool is_python_space(char32_t c) { return is_space(c) || (c >= 0x1C && c <= 0x1F); }

inline std::string_view trim_begin(std::string_view text) {
  while (!text.empty()) {
    const CodePoint c = read_utf8(text, 0);
    if (!is_python_space(c.value)) break;
    text.remove_prefix(c.length);
  }
  return text;
}

inline std::string_view trim_end(std::string_view text) {
  while (!text.empty()) {
    size_t last = text.size() - 1;
    while (last > 0 && (text[last] & 0xC0) == 0x80) --last;
    if (!is_python_space(read_utf8(text, last).value)) break;
    text = text.substr(0, last);
  }
  return text;
}

}  // namespace hearth::jinja
