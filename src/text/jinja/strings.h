// Python's operations on strings, as methods and filters of templates share them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "text/jinja/value.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace hearth::jinja {

constexpr size_t kMaxString = size_t{64} << 20;

// Offsets where characters begin, and the end.
std::vector<size_t> characters(const std::string& text);
int64_t length(const std::string& text);  // in characters

MarkedString upper(const MarkedString& text);
MarkedString lower(const MarkedString& text);
MarkedString capitalize(const MarkedString& text);
// A letter begins a word unless the character before it `continues` one.
MarkedString title(const MarkedString& text, bool (*continues)(char));

enum Sides { kLeft = 1, kRight = 2, kBoth = 3 };
Value strip(const MarkedString& text, const Arguments& args, int sides);
MarkedString replace(const MarkedString& text, const MarkedString& from, const MarkedString& to, int64_t count);
List split(Context& context, const MarkedString& text, const Arguments& args, bool from_right);
List split_lines(const MarkedString& text, bool keep_ends);
MarkedString join(Context& context, const List& items, const MarkedString& separator);

Value all_characters(const MarkedString& text, auto&& belongs) {
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = read_utf8(text.text(), at);
    if (!belongs(c.value)) return false;
    at += c.length;
  }
  return text.size() > 0;
}
// As str.isupper: some letter has this case and none the other.
Value cased(const MarkedString& text, Category wanted, Category other);

}  // namespace hearth::jinja
