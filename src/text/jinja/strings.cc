// Python's operations on strings, over UTF-8; results keep the marks of what they are made of.
#include "text/jinja/strings.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "text/jinja/python_text.h"

namespace hearth::jinja {
namespace {

MarkedString part_of(Context& context, const MarkedString& whole, std::string_view part) {
  if (!context.charge_bytes(Context::kStringBytes + part.size())) return {};
  return whole.substr(static_cast<size_t>(part.data() - whole.text().data()), part.size());
}

// A capital sigma is "ς" at the end of a word, else "σ".
bool ends_word(Context& context, std::string_view text, size_t at) {
  size_t before = at;
  while (before > 0 && context.charge(1) &&
         has_property(read_utf8(text, previous_character(text, before)).value, Property::kIgnorable)) {
    before = previous_character(text, before);
  }
  if (before == 0 || !has_property(read_utf8(text, previous_character(text, before)).value, Property::kCased)) {
    return false;
  }
  size_t after = next_character(text, at);
  while (after < text.size() && context.charge(1) && has_property(read_utf8(text, after).value, Property::kIgnorable)) {
    after = next_character(text, after);
  }
  return after == text.size() || !has_property(read_utf8(text, after).value, Property::kCased);
}

// Each character in the case that `choose(character)` gives, called in order.
MarkedString recased(Context& context, const MarkedString& text, auto&& choose) {
  constexpr char32_t kSigma = 0x3A3;
  TextBuilder out(context);
  std::string changed;
  const std::string& bytes = text.text();
  for (size_t at = 0; at < bytes.size() && !context.failed();) {
    const CodePoint c = read_utf8(bytes, at);
    const Case wanted = choose(c.value);
    changed.clear();
    if (c.value == kSigma && wanted == Case::kLower) {
      append_utf8(changed, ends_word(context, bytes, at) ? 0x3C2 : 0x3C3);
    } else {
      append_case(changed, c.value, wanted);
    }
    out.append(changed, text.from_request(at));
    at += c.length;
  }
  return out.take();
}

}  // namespace

size_t find_bytes(std::string_view text, std::string_view wanted, size_t from) {
  if (from > text.size()) return text.npos;
  const void* hit = memmem(text.data() + from, text.size() - from, wanted.data(), wanted.size());
  return hit == nullptr ? text.npos : static_cast<size_t>(static_cast<const char*>(hit) - text.data());
}
size_t rfind_bytes(Context& context, std::string_view text, std::string_view wanted) {
  return context.charge(1 + text.size() / 64 * (1 + wanted.size())) ? text.rfind(wanted) : text.npos;
}

int64_t length(std::string_view text) {
  return std::ranges::count_if(text, [](char c) { return (c & 0xC0) != 0x80; });
}
size_t next_character(std::string_view text, size_t at) { return at + read_utf8(text, at).length; }
size_t previous_character(std::string_view text, size_t at) {
  do --at;
  while (at > 0 && (text[at] & 0xC0) == 0x80);
  return at;
}
size_t offset_of(std::string_view text, int64_t index) {
  size_t at = 0;
  while (index-- > 0 && at < text.size()) at = next_character(text, at);
  return at;
}

MarkedString upper(Context& context, const MarkedString& text) {
  return recased(context, text, [](char32_t) { return Case::kUpper; });
}
MarkedString lower(Context& context, const MarkedString& text) {
  return recased(context, text, [](char32_t) { return Case::kLower; });
}
MarkedString capitalize(Context& context, const MarkedString& text) {
  return recased(context, text, [first = true](char32_t) mutable {
    return std::exchange(first, false) ? Case::kTitle : Case::kLower;
  });
}
MarkedString title(Context& context, const MarkedString& text) {
  return recased(context, text, [inside = false](char32_t c) mutable {
    return std::exchange(inside, has_property(c, Property::kCased)) ? Case::kLower : Case::kTitle;
  });
}
MarkedString swap_case(Context& context, const MarkedString& text) {
  return recased(context, text,
                 [](char32_t c) { return has_property(c, Property::kUpper) ? Case::kLower : Case::kUpper; });
}
MarkedString title_words(Context& context, const MarkedString& text) {
  return recased(context, text, [inside = false](char32_t c) mutable {
    const bool separates = is_python_space(c) ||
                           (c < 0x80 && std::string_view("-({[<").find(static_cast<char>(c)) != std::string_view::npos);
    return std::exchange(inside, !separates) ? Case::kLower : Case::kUpper;
  });
}

Value strip(Context& context, const MarkedString& text, const MarkedString* set, int sides) {
  std::string_view part = text.text();
  if (set == nullptr) {
    if (sides & kLeft) part = trim_begin(part);
    if (sides & kRight) part = trim_end(part);
  } else {
    const auto in_set = [&](size_t begin, size_t end) {
      return context.charge(1 + set->size() / 64) &&
             find_bytes(set->text(), part.substr(begin, end - begin), 0) != std::string::npos;
    };
    while ((sides & kLeft) && !part.empty() && in_set(0, next_character(part, 0))) {
      part.remove_prefix(next_character(part, 0));
    }
    while ((sides & kRight) && !part.empty() && in_set(previous_character(part, part.size()), part.size())) {
      part.remove_suffix(part.size() - previous_character(part, part.size()));
    }
  }
  return part_of(context, text, part);
}

MarkedString replace(Context& context, const MarkedString& text, const MarkedString& from, const MarkedString& to,
                     int64_t count) {
  if (count < 0) count = std::numeric_limits<int64_t>::max();
  TextBuilder out(context);
  const std::string& bytes = text.text();
  size_t at = 0;
  if (from.size() == 0) {  // between all characters
    for (; count > 0 && context.charge(1); --count) {
      out.append(to);
      if (at == bytes.size()) return out.take();
      const size_t next = next_character(bytes, at);
      out.append(text.substr(at, next - at));
      at = next;
    }
  } else {
    for (size_t hit; count > 0 && (hit = find_bytes(bytes, from.text(), at)) != bytes.npos && context.charge(1);
         at = hit + from.size(), --count) {
      out.append(text.substr(at, hit - at));
      out.append(to);
    }
  }
  out.append(text.substr(at, bytes.size() - at));
  return out.take();
}

List split(Context& context, const MarkedString& text, const MarkedString* separator, int64_t most, bool from_right) {
  if (most < 0) most = std::numeric_limits<int64_t>::max();
  List out;
  const auto add = [&](std::string_view part) {
    if (context.charge_items(1)) out.push_back(part_of(context, text, part));
  };
  std::string_view rest = text.text();
  if (separator == nullptr) {
    // Words, white space between them in runs.
    rest = from_right ? trim_end(rest) : trim_begin(rest);
    for (; !rest.empty() && most > 0 && context.charge(1); --most) {
      size_t begin = 0, end = rest.size();  // of a word at the end that is cut from
      if (from_right) {
        for (begin = end; begin > 0; begin = previous_character(rest, begin)) {
          if (is_python_space(read_utf8(rest, previous_character(rest, begin)).value)) break;
        }
      } else {
        for (end = 0; end < rest.size() && !is_python_space(read_utf8(rest, end).value);) {
          end = next_character(rest, end);
        }
      }
      add(rest.substr(begin, end - begin));
      rest = from_right ? trim_end(rest.substr(0, begin)) : trim_begin(rest.substr(end));
    }
    if (!rest.empty()) add(rest);
  } else if (separator->size() == 0) {
    context.fail("empty separator");
  } else {
    const std::string& mark = separator->text();
    while (most-- > 0 && context.charge(1)) {
      const size_t hit = from_right ? rfind_bytes(context, rest, mark) : find_bytes(rest, mark, 0);
      if (hit == rest.npos) break;
      add(from_right ? rest.substr(hit + mark.size()) : rest.substr(0, hit));
      rest = from_right ? rest.substr(0, hit) : rest.substr(hit + mark.size());
    }
    add(rest);
  }
  if (from_right) std::ranges::reverse(out);
  return out;
}

List split_lines(Context& context, const MarkedString& text, bool keep_ends) {
  List out;
  const std::string_view bytes = text.text();
  for (size_t begin = 0; begin < bytes.size() && context.charge_items(1);) {
    size_t end = begin, next = bytes.size();
    for (; end < bytes.size(); end = next_character(bytes, end)) {
      const char32_t c = read_utf8(bytes, end).value;
      if ((c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029) {
        next = next_character(bytes, end);
        if (c == '\r' && bytes.substr(next).starts_with('\n')) ++next;
        break;
      }
    }
    if (end == bytes.size()) next = end;
    out.push_back(part_of(context, text, bytes.substr(begin, (keep_ends ? next : end) - begin)));
    begin = next;
  }
  return out;
}

bool is_cased(const MarkedString& text, Property wanted, Property other) {
  bool some = false;
  for (size_t at = 0; at < text.size(); at = next_character(text.text(), at)) {
    const char32_t c = read_utf8(text.text(), at).value;
    if (has_property(c, other) || category(c) == Category::kTitle) return false;
    some |= has_property(c, wanted);
  }
  return some;
}

MarkedString pad(Context& context, const MarkedString& text, int64_t width, Sides where, const MarkedString& fill) {
  if (length(fill.text()) != 1) context.fail("padding takes one character");
  const int64_t missing = std::max<int64_t>(width - length(text.text()), 0);
  // Of an odd number the text's and the width's parity decide which side gets one more, as in Python.
  const int64_t half = missing / 2 + (missing & width & 1);
  const int64_t before = where == kLeft ? missing : where == kRight ? 0 : half;
  TextBuilder out(context);
  for (int64_t i = 0; i < before && context.charge(1); ++i) out.append(fill);
  out.append(text);
  for (int64_t i = before; i < missing && context.charge(1); ++i) out.append(fill);
  return out.take();
}

MarkedString join(Context& context, const List& items, const MarkedString& separator) {
  TextBuilder out(context);
  for (size_t i = 0; i < items.size() && context.charge(1); ++i) {
    if (i > 0) out.append(separator);
    if (const MarkedString* text = items[i].string()) {
      out.append(*text);
    } else {
      out.append(to_text(context, items[i]));
    }
  }
  return out.take();
}

}  // namespace hearth::jinja
