// Names that nobody else has.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace hearth {

uint64_t random_bits();
// `prefix` and so many letters and digits.
std::string random_id(std::string_view prefix, size_t length = 32);

}  // namespace hearth
