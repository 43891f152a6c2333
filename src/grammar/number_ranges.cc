// Digit by digit: as long as a number has the digits of a bound, its next digit is bounded; then all digits go.
#include "grammar/number_ranges.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "base/cat.h"

namespace hearth {
namespace {

constexpr size_t kMostDigits = 18;
constexpr size_t kMostFraction = 12;

using Alternatives = std::vector<std::string>;

std::string joined(const Alternatives& parts) {
  std::string out;
  for (size_t i = 0; i < parts.size(); ++i) out += cat(i > 0 ? " | " : "", parts[i]);
  return parts.size() > 1 ? cat("(", out, ")") : out;
}

std::string digit_class(int low, int high) {
  return low == high ? cat("\"", low, "\"") : cat("[", low, "-", high, "]");
}

std::string digits(size_t count) { return count == 0 ? "" : cat("[0-9]{", count, "}"); }

// Numbers of as many digits as both bounds have; an empty bound is none.
std::string same_length(std::string_view low, std::string_view high, size_t length, size_t at = 0) {
  if (at == length) return "\"\"";
  if (low.empty() && high.empty()) return digits(length - at);
  const int first = low.empty() ? (at == 0 && length > 1 ? 1 : 0) : low[at] - '0';
  const int last = high.empty() ? 9 : high[at] - '0';
  Alternatives out;
  const auto add = [&](int from, int to, std::string_view low_rest, std::string_view high_rest) {
    if (from <= to) out.push_back(cat(digit_class(from, to), " ", same_length(low_rest, high_rest, length, at + 1)));
  };
  if (!low.empty() && !high.empty() && first == last) {
    add(first, last, low, high);
    return joined(out);
  }
  int from = first, to = last;
  if (!low.empty()) add(first, first, low, {}), ++from;
  if (!high.empty()) --to;
  add(from, to, {}, {});
  if (!high.empty()) add(last, last, {}, high);
  return joined(out);
}

// Not negative.
std::string natural_between(uint64_t min, std::optional<uint64_t> max) {
  if (max && min > *max) return "";
  const std::string low = cat(min), high = max ? cat(*max) : std::string();
  Alternatives out;
  const size_t longest = max ? high.size() : std::max(low.size(), kMostDigits);
  for (size_t length = low.size(); length <= longest; ++length) {
    const bool at_low = length == low.size(), at_high = max && length == high.size();
    if (at_low || at_high) {
      out.push_back(same_length(at_low ? std::string_view(low) : "", at_high ? std::string_view(high) : "", length));
    } else if (!max) {
      out.push_back(cat("[1-9] [0-9]{", length - 1, ",", longest - 1, "}"));
      break;
    } else {
      out.push_back(cat("[1-9] ", digits(length - 1)));
    }
  }
  // A low bound of one digit and none above: 0 must not be followed by more, which same_length keeps.
  return joined(out);
}

// What follows the integer part, where that is the bounds' own. Digits of a bound have no zeros at their end.
struct Fraction {
  std::string digits;
  bool exclusive = false;
};
// Nullopt: impossible.
std::optional<std::string> fraction(const Fraction* low, const Fraction* high, size_t at, bool may_stop) {
  if (low != nullptr && at >= low->digits.size() && !low->exclusive) low = nullptr;
  const size_t left = kMostFraction - std::min(at, kMostFraction);
  if (low == nullptr && high == nullptr) {
    if (left == 0) return "\"\"";
    return may_stop ? cat("[0-9]{0,", left, "}") : cat("[0-9]{1,", left, "}");
  }
  Alternatives out;
  const bool stop_low = low == nullptr;
  const bool stop_high = high == nullptr || at < high->digits.size() || !high->exclusive;
  if (may_stop && stop_low && stop_high) out.emplace_back("\"\"");
  if (left > 0) {
    const int first = low == nullptr || at >= low->digits.size() ? 0 : low->digits[at] - '0';
    const int last = high == nullptr ? 9 : at >= high->digits.size() ? 0 : high->digits[at] - '0';
    // An upper bound that is used up allows zeros only, which say nothing.
    const bool used_up = high != nullptr && at >= high->digits.size();
    for (int digit = first; digit <= last && !used_up;) {
      const Fraction* next_low = digit == first ? low : nullptr;
      const Fraction* next_high = digit == last ? high : nullptr;
      int end = digit;
      if (next_low == nullptr && next_high == nullptr) end = high == nullptr ? 9 : last - 1;
      if (const auto rest = fraction(next_low, next_high, at + 1, true)) {
        out.push_back(cat(digit_class(digit, end), " ", *rest));
      }
      digit = end + 1;
    }
  }
  if (out.empty()) return std::nullopt;
  return joined(out);
}

constexpr uint64_t kMillion = 1'000'000;

std::string fraction_digits(uint64_t millionths) {
  std::string out = cat(millionths % kMillion);
  out.insert(0, 6 - out.size(), '0');
  while (!out.empty() && out.back() == '0') out.pop_back();
  return out;
}

struct Bound {
  uint64_t millionths = 0;
  bool exclusive = false;
};

// Not negative.
std::string magnitude_between(const Bound& min, const std::optional<Bound>& max) {
  if (max &&
      (min.millionths > max->millionths || (min.millionths == max->millionths && (min.exclusive || max->exclusive)))) {
    return "";
  }
  const uint64_t low = min.millionths / kMillion;
  const Fraction low_fraction{fraction_digits(min.millionths), min.exclusive};
  const std::string any = cat("(\".\" [0-9]{1,", kMostFraction, "})?");
  Alternatives out;
  const auto add = [&](uint64_t whole, const Fraction* from, const Fraction* to) {
    const bool without = (from == nullptr || (from->digits.empty() && !from->exclusive)) &&
                         (to == nullptr || !to->digits.empty() || !to->exclusive);
    if (without) out.push_back(cat("\"", whole, "\""));
    if (const auto rest = fraction(from, to, 0, false)) out.push_back(cat("\"", whole, ".\" ", *rest));
  };
  if (!max) {
    add(low, &low_fraction, nullptr);
    out.push_back(cat(natural_between(low + 1, std::nullopt), " ", any));
    return joined(out);
  }
  const uint64_t high = max->millionths / kMillion;
  const Fraction high_fraction{fraction_digits(max->millionths), max->exclusive};
  if (low == high) {
    add(low, &low_fraction, &high_fraction);
    return joined(out);
  }
  add(low, &low_fraction, nullptr);
  if (high - low > 1) out.push_back(cat(natural_between(low + 1, high - 1), " ", any));
  add(high, nullptr, &high_fraction);
  return joined(out);
}

// Both signs, from what is on each side of 0.
std::string both_signs(const std::string& negative, const std::string& positive) {
  Alternatives out;
  if (!negative.empty()) out.push_back(cat("\"-\" ", negative));
  if (!positive.empty()) out.push_back(positive);
  return joined(out);
}

}  // namespace

std::string integer_between(std::optional<int64_t> min, std::optional<int64_t> max) {
  if (min && max && *min > *max) return "";
  const auto magnitude = [](int64_t value) {
    return value < 0 ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  };
  std::string negative, positive;
  if (!min || *min < 0) {
    negative =
        natural_between(max && *max < 0 ? magnitude(*max) : 1, min ? std::optional(magnitude(*min)) : std::nullopt);
  }
  if (!max || *max >= 0) {
    positive =
        natural_between(min && *min > 0 ? magnitude(*min) : 0, max ? std::optional(magnitude(*max)) : std::nullopt);
  }
  return both_signs(negative, positive);
}

std::string decimal_between(const std::optional<DecimalBound>& min, const std::optional<DecimalBound>& max) {
  const auto bound = [](const std::optional<DecimalBound>& b, bool negated) -> std::optional<Bound> {
    if (!b) return std::nullopt;
    return Bound{static_cast<uint64_t>(negated ? -b->millionths : b->millionths), b->exclusive};
  };
  std::string negative, positive;
  if (!min || min->millionths < 0) {
    // Zero is written without a sign.
    const bool below = max && max->millionths < 0;
    negative = magnitude_between(below ? *bound(max, true) : Bound{0, true}, bound(min, true));
  }
  if (!max || max->millionths >= 0) {
    const bool above = min && min->millionths >= 0;
    positive = magnitude_between(above ? *bound(min, false) : Bound{}, bound(max, false));
  }
  return both_signs(negative, positive);
}

}  // namespace hearth
