// UTF-8: reading one code point at a time, strictly (no overlong forms, surrogates or values beyond U+10FFFF).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace hearth {

struct CodePoint {
  char32_t value = 0xFFFD;
  size_t length = 0;  // bytes; of broken ones, the longest prefix that a valid character could have (at least 1)
  bool valid = false;
  bool truncated = false;  // not valid, but more bytes after the end of the text might make it so
};

// at < text.size()
inline CodePoint read_utf8(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {lead, 1, true, false};
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4) return {0xFFFD, 1, false, false};
  char32_t value = lead & (0xFF >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if (at + i >= text.size()) return {0xFFFD, i, false, true};
    // The second byte's range excludes overlong forms, surrogates and what lies beyond U+10FFFF.
    const unsigned char low = i > 1 ? 0x80 : lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const unsigned char high = i > 1 ? 0xBF : lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (byte(i) < low || byte(i) > high) return {0xFFFD, i, false, false};
    value = value << 6 | (byte(i) & 0x3F);
  }
  return {value, length, true, false};
}

// Of a piece of valid text: a character counts where it begins.
inline int64_t count_characters(std::string_view text) {
  int64_t count = 0;
  for (const char c : text) count += (c & 0xC0) != 0x80 ? 1 : 0;
  return count;
}

inline void append_utf8(std::string& out, char32_t c) {
  const auto tail = [&](int shift) { out.push_back(static_cast<char>(0x80 | (c >> shift & 0x3F))); };
  if (c < 0x80) {
    out.push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    out.push_back(static_cast<char>(0xC0 | c >> 6));
    tail(0);
  } else if (c < 0x10000) {
    out.push_back(static_cast<char>(0xE0 | c >> 12));
    tail(6);
    tail(0);
  } else {
    out.push_back(static_cast<char>(0xF0 | c >> 18));
    tail(12);
    tail(6);
    tail(0);
  }
}

inline bool valid_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = read_utf8(text, at);
    if (!c.valid) return false;
    at += c.length;
  }
  return true;
}

// Each broken sequence becomes one U+FFFD, as in Rust, browsers and Python.
inline std::string replace_broken_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = read_utf8(text, at);
    if (c.valid) {
      out.append(text.substr(at, c.length));
    } else {
      append_utf8(out, 0xFFFD);
    }
    at += c.length;
  }
  return out;
}

}  // namespace hearth
