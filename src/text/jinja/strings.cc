// Python's operations on strings, over UTF-8; results keep the marks of what they are made of.
#include "text/jinja/strings.h"

#include <algorithm>
#include <limits>

#include "text/jinja/arguments.h"
#include "text/jinja/python_text.h"

namespace hearth::jinja {
namespace {

MarkedString part_of(const MarkedString& whole, std::string_view part) {
  return whole.substr(static_cast<size_t>(part.data() - whole.text().data()), part.size());
}

char to_upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; }
char to_lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

// Case is changed in ASCII alone: templates change roles and types, not prose.
MarkedString recased(MarkedString text, const std::function<char(size_t, char)>& change) {
  text.map_bytes(change);
  return text;
}

}  // namespace

// Offsets where characters begin, and the end.
std::vector<size_t> characters(const std::string& text) {
  std::vector<size_t> out;
  for (size_t at = 0; at < text.size(); at += read_utf8(text, at).length) out.push_back(at);
  out.push_back(text.size());
  return out;
}
int64_t length(const std::string& text) {
  return std::ranges::count_if(text, [](char c) { return (c & 0xC0) != 0x80; });
}

MarkedString upper(const MarkedString& text) {
  return recased(text, [](size_t, char c) { return to_upper(c); });
}
MarkedString lower(const MarkedString& text) {
  return recased(text, [](size_t, char c) { return to_lower(c); });
}
MarkedString capitalize(const MarkedString& text) {
  return recased(text, [](size_t i, char c) { return i == 0 ? to_upper(c) : to_lower(c); });
}
// A letter begins a word unless the character before it `continues` one.
MarkedString title(const MarkedString& text, bool (*continues)(char)) {
  bool inside = false;
  return recased(text, [&](size_t, char c) {
    const char out = inside ? to_lower(c) : to_upper(c);
    inside = continues(c);
    return out;
  });
}

Value strip(const MarkedString& text, const Args& args, int sides) {
  std::string_view part = text.text();
  const MarkedString* set = string_argument(args, 0, "chars");
  if (set == nullptr) {
    if (sides & kLeft) part = trim_begin(part);
    if (sides & kRight) part = trim_end(part);
    return part_of(text, part);
  }
  const auto in_set = [&](std::string_view character) { return set->text().find(character) != std::string::npos; };
  const auto offsets = characters(text.text());
  size_t first = 0, last = offsets.size() - 1;
  const auto character = [&](size_t i) {
    return std::string_view(text.text()).substr(offsets[i], offsets[i + 1] - offsets[i]);
  };
  while ((sides & kLeft) && first < last && in_set(character(first))) ++first;
  while ((sides & kRight) && first < last && in_set(character(last - 1))) --last;
  return text.substr(offsets[first], offsets[last] - offsets[first]);
}

MarkedString replace(const MarkedString& text, const MarkedString& from, const MarkedString& to, int64_t count) {
  if (count < 0) count = std::numeric_limits<int64_t>::max();
  MarkedString out;
  const auto& bytes = text.text();
  size_t at = 0;
  if (from.size() == 0) {  // between all characters
    const auto offsets = characters(bytes);
    for (size_t i = 0; i < offsets.size(); ++i) {
      if (count-- > 0) out.append(to);
      if (i + 1 < offsets.size()) out.append(text.substr(offsets[i], offsets[i + 1] - offsets[i]));
    }
    return out;
  }
  for (size_t hit; count > 0 && (hit = bytes.find(from.text(), at)) != bytes.npos; at = hit + from.size(), --count) {
    out.append(text.substr(at, hit - at));
    out.append(to);
    if (out.size() > kMaxString) return out;  // the caller refuses it
  }
  out.append(text.substr(at, bytes.size() - at));
  return out;
}

List split(Context& context, const MarkedString& text, const Args& args, bool from_right) {
  const MarkedString* separator = string_argument(args, 0, "sep");
  int64_t most = integer_argument(args, 1, "maxsplit", -1);
  if (most < 0) most = std::numeric_limits<int64_t>::max();
  List out;
  std::string_view rest = text.text();
  if (separator == nullptr) {
    rest = from_right ? trim_end(rest) : trim_begin(rest);
    while (!rest.empty() && most-- > 0) {
      const auto offsets_of_space = [&]() -> std::pair<size_t, size_t> {  // the first or last run of white space
        size_t begin = rest.npos, end = 0;
        for (size_t at = 0; at < rest.size();) {
          const CodePoint c = read_utf8(rest, at);
          if (is_python_space(c.value)) {
            if (begin == rest.npos || (from_right && end != at)) begin = at;
            end = at + c.length;
          } else if (begin != rest.npos && !from_right) {
            break;
          }
          at += c.length;
        }
        return {begin, end};
      };
      const auto [begin, end] = offsets_of_space();
      if (!context.charge(1 + rest.size() / (from_right ? 1 : 64))) return out;
      if (begin == rest.npos) break;
      out.push_back(part_of(text, from_right ? rest.substr(end) : rest.substr(0, begin)));
      rest = from_right ? trim_end(rest.substr(0, begin)) : trim_begin(rest.substr(end));
    }
    if (!rest.empty()) out.push_back(part_of(text, rest));
  } else if (separator->size() == 0) {
    context.fail("empty separator");
  } else {
    const std::string& mark = separator->text();
    while (most-- > 0 && context.charge(1)) {
      const size_t hit = from_right ? rest.rfind(mark) : rest.find(mark);
      if (hit == rest.npos) break;
      out.push_back(part_of(text, from_right ? rest.substr(hit + mark.size()) : rest.substr(0, hit)));
      rest = from_right ? rest.substr(0, hit) : rest.substr(hit + mark.size());
    }
    out.push_back(part_of(text, rest));
  }
  if (from_right) std::ranges::reverse(out);
  return out;
}

List split_lines(const MarkedString& text, bool keep_ends) {
  List out;
  const auto& bytes = text.text();
  for (size_t begin = 0; begin < bytes.size();) {
    size_t end = begin, next = begin;
    for (;;) {
      if (end >= bytes.size()) {
        next = end;
        break;
      }
      const CodePoint c = read_utf8(bytes, end);
      const bool is_break = (c.value >= 0x0A && c.value <= 0x0D) || (c.value >= 0x1C && c.value <= 0x1E) ||
                            c.value == 0x85 || c.value == 0x2028 || c.value == 0x2029;
      if (is_break) {
        next = end + c.length + (c.value == '\r' && bytes.substr(end + 1, 1) == "\n");
        break;
      }
      end += c.length;
    }
    out.push_back(text.substr(begin, (keep_ends ? next : end) - begin));
    begin = next;
  }
  return out;
}

Value cased(const MarkedString& text, Category wanted, Category other) {
  bool some = false;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = read_utf8(text.text(), at);
    if (category(c.value) == other || category(c.value) == Category::kTitle) return false;
    some |= category(c.value) == wanted;
    at += c.length;
  }
  return some;
}

MarkedString join(Context& context, const List& items, const MarkedString& separator) {
  MarkedString out;
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out.append(separator);
    const MarkedString text = to_text(context, items[i]);
    out.append(text);
    if (out.size() > kMaxString) context.fail("string longer than ", kMaxString, " bytes");
    if (!context.charge(1 + (separator.size() + text.size()) / 64)) break;
  }
  return out;
}

}  // namespace hearth::jinja
