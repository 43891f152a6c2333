// What must be escaped in a literal.
#include "grammar/ebnf_writer.h"

namespace hearth {

std::string EbnfWriter::literal(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
      constexpr std::string_view kHex = "0123456789abcdef";
      out += cat("\\u00", kHex.substr(static_cast<size_t>(c) >> 4, 1), kHex.substr(static_cast<size_t>(c) & 15, 1));
    } else {
      out += c;
    }
  }
  return out + '"';
}

}  // namespace hearth
