// The kernel's random numbers.
#include "api/random_id.h"

#include <sys/random.h>

#include "base/check.h"

namespace hearth {

uint64_t random_bits() {
  uint64_t bits = 0;
  HEARTH_CHECK(getrandom(&bits, sizeof bits, 0) == sizeof bits);
  return bits;
}

std::string random_id(std::string_view prefix, size_t length) {
  std::string out(prefix);
  while (length > 0) {
    uint64_t bits = random_bits();
    for (int digit = 0; digit < 16 && length > 0; ++digit, bits >>= 4, --length) out += "0123456789abcdef"[bits & 15];
  }
  return out;
}

}  // namespace hearth
