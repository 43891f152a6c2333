// Numbers between bounds, as EBNF over their decimal digits.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace hearth {

// "" where there is none.
std::string integer_between(std::optional<int64_t> min, std::optional<int64_t> max);

struct DecimalBound {
  int64_t millionths = 0;
  bool exclusive = false;
};
// Without an exponent.
std::string decimal_between(const std::optional<DecimalBound>& min, const std::optional<DecimalBound>& max);

}  // namespace hearth
