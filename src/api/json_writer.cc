// JSON string escaping, with broken UTF-8 replaced on the way.
#include "api/json_writer.h"

#include "text/utf8.h"

namespace hearth {

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  const auto is_plain = [](char c) { return c >= 0x20 && c < 0x7F && c != '"' && c != '\\'; };
  for (size_t at = 0; at < text.size();) {
    size_t end = at;
    while (end < text.size() && is_plain(text[end])) ++end;
    out.append(text, at, end - at);
    at = end;
    if (at == text.size()) break;
    const CodePoint c = read_utf8(text, at);
    if (!c.valid) {
      append_utf8(out, c.value);
    } else if (c.value == '"' || c.value == '\\') {
      out += '\\';
      out += static_cast<char>(c.value);
    } else if (c.value == '\n') {
      out += "\\n";
    } else if (c.value < 0x20 || c.value == 0x7F) {
      constexpr std::string_view kHex = "0123456789abcdef";
      out += "\\u00";
      out += kHex[c.value >> 4];
      out += kHex[c.value & 15];
    } else {
      out += text.substr(at, c.length);
    }
    at += c.length;
  }
  out += '"';
}

}  // namespace hearth
