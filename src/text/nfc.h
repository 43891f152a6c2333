// Unicode's normalization form C: characters composed, marks in canonical order.
#pragma once

#include <string>
#include <string_view>

namespace hearth {

// Of valid UTF-8.
std::string to_nfc(std::string_view text);

}  // namespace hearth
