// The table of runs, and a direct table for the first 1,024 code points, which most text stays in.
#include "text/unicode.h"

#include <algorithm>
#include <array>
#include <iterator>

namespace hearth {
namespace {

constexpr uint32_t kRuns[] = {
#include "text/unicode_categories.inc"
};

Category search(char32_t c) {
  const auto after = std::upper_bound(std::begin(kRuns), std::end(kRuns), static_cast<uint32_t>(c) << 4 | 0xF);
  return static_cast<Category>(*(after - 1) & 0xF);
}

}  // namespace

Category category(char32_t c) {
  static const auto low = [] {
    std::array<Category, 1024> table;
    for (char32_t i = 0; i < table.size(); ++i) table[i] = search(i);
    return table;
  }();
  return c < low.size() ? low[c] : search(c);
}

}  // namespace hearth
