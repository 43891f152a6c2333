// Tables made by tools/make_unicode_tables.py; ASCII is answered without them.
#include "text/unicode_case.h"

#include <algorithm>
#include <iterator>
#include <span>

#include "text/utf8.h"

namespace hearth {
namespace {

struct Run {
  char32_t first, last;
  char32_t step;
  int32_t delta[3];  // by Case
};
constexpr Run kRuns[] = {
#include "text/unicode_case_runs.inc"
};

struct Special {
  char32_t character;
  const char* text[3];
};
constexpr Special kSpecial[] = {
#include "text/unicode_case_special.inc"
};

constexpr char32_t kCased[] = {
#include "text/unicode_case_cased.inc"
};
constexpr char32_t kIgnorable[] = {
#include "text/unicode_case_ignorable.inc"
};
constexpr char32_t kUpper[] = {
#include "text/unicode_case_upper.inc"
};
constexpr char32_t kLower[] = {
#include "text/unicode_case_lower.inc"
};
constexpr char32_t kDigit[] = {
#include "text/unicode_case_digit.inc"
};
constexpr char32_t kDecimal[] = {
#include "text/unicode_case_decimal.inc"
};
constexpr char32_t kNumeric[] = {
#include "text/unicode_case_numeric.inc"
};

}  // namespace

void append_case(std::string& out, char32_t c, Case wanted) {
  const auto which = static_cast<size_t>(wanted);
  if (c < 0x80) {
    const bool upper = c >= 'A' && c <= 'Z', lower = c >= 'a' && c <= 'z';
    const bool changes = wanted == Case::kLower ? upper : lower;
    out.push_back(static_cast<char>(changes ? c ^ 0x20 : c));
    return;
  }
  const auto special = std::ranges::lower_bound(kSpecial, c, {}, &Special::character);
  if (special != std::end(kSpecial) && special->character == c) {
    out += special->text[which];
    return;
  }
  const auto run = std::ranges::lower_bound(kRuns, c, {}, &Run::last);
  const bool inside = run != std::end(kRuns) && c >= run->first && (c - run->first) % run->step == 0;
  append_utf8(out, inside ? static_cast<char32_t>(static_cast<int32_t>(c) + run->delta[which]) : c);
}

bool has_property(char32_t c, Property property) {
  const auto edges = [&]() -> std::span<const char32_t> {
    switch (property) {
      case Property::kCased: return kCased;
      case Property::kIgnorable: return kIgnorable;
      case Property::kUpper: return kUpper;
      case Property::kLower: return kLower;
      case Property::kDigit: return kDigit;
      case Property::kDecimal: return kDecimal;
      case Property::kNumeric: return kNumeric;
    }
    return {};
  }();
  return (std::ranges::upper_bound(edges, c) - edges.begin()) % 2 == 1;
}

}  // namespace hearth
