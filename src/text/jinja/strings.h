// Python's operations on strings, as methods and filters of templates share them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "text/jinja/value.h"
#include "text/unicode.h"
#include "text/unicode_case.h"
#include "text/utf8.h"

namespace hearth::jinja {

// Offset of `wanted`, or npos; in time linear in both.
size_t find_bytes(std::string_view text, std::string_view wanted, size_t from);
size_t rfind_bytes(Context& context, std::string_view text, std::string_view wanted);

int64_t length(std::string_view text);  // in characters
// Offsets of characters.
size_t next_character(std::string_view text, size_t at);
size_t previous_character(std::string_view text, size_t at);  // at > 0
size_t offset_of(std::string_view text, int64_t index);       // the end, where there are fewer

MarkedString upper(Context& context, const MarkedString& text);
MarkedString lower(Context& context, const MarkedString& text);
MarkedString capitalize(Context& context, const MarkedString& text);
MarkedString title(Context& context, const MarkedString& text);  // str.title
MarkedString swap_case(Context& context, const MarkedString& text);
MarkedString title_words(Context& context, const MarkedString& text);  // Jinja's filter: words end at other characters

enum Sides { kLeft = 1, kRight = 2, kBoth = 3 };
// `set`: the characters to strip; null: white space.
Value strip(Context& context, const MarkedString& text, const MarkedString* set, int sides);
// count below 0: all.
MarkedString replace(Context& context, const MarkedString& text, const MarkedString& from, const MarkedString& to,
                     int64_t count);
// `separator` null: white space. At most `most` cuts, below 0: any number.
List split(Context& context, const MarkedString& text, const MarkedString* separator, int64_t most, bool from_right);
List split_lines(Context& context, const MarkedString& text, bool keep_ends);
MarkedString join(Context& context, const List& items, const MarkedString& separator);

bool all_characters(const MarkedString& text, auto&& belongs) {
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = read_utf8(text.text(), at);
    if (!belongs(c.value)) return false;
    at += c.length;
  }
  return text.size() > 0;
}
// As str.isupper: some letter has this case and none the other.
bool is_cased(const MarkedString& text, Property wanted, Property other);
// At least `width` characters, `fill` on the sides named.
MarkedString pad(Context& context, const MarkedString& text, int64_t width, Sides where, const MarkedString& fill);

}  // namespace hearth::jinja
