// Each other byte becomes a question mark.
#include "base/printable.h"

namespace hearth {

std::string printable(std::string_view name) {
  std::string out(name.substr(0, 300));
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) > 0x7E) c = '?';
  }
  return out;
}

}  // namespace hearth
