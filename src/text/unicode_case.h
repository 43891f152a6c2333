// Upper, lower and title case of all characters, and the properties that Python's str.isupper and its kin go by.
#pragma once

#include <cstdint>
#include <string>

namespace hearth {

enum class Case { kUpper, kLower, kTitle };
// Appends what the character becomes, which may be several ("ß" in upper case).
void append_case(std::string& out, char32_t c, Case wanted);

enum class Property {
  kCased,
  kIgnorable,  // overlooked where the neighbours of a character decide on its case
  kUpper,
  kLower,
  kDigit,
  kDecimal,
  kNumeric,
};
bool has_property(char32_t c, Property property);

}  // namespace hearth
