// Binomial arithmetic.
#include "eval/statistics.h"

#include <algorithm>
#include <cmath>

namespace hearth {

double standard_error(int64_t right, int64_t total) {
  if (total < 2) return 0;
  const double share = static_cast<double>(right) / static_cast<double>(total);
  return std::sqrt(share * (1 - share) / static_cast<double>(total - 1));
}

double PairedDifference::difference() const {
  return static_cast<double>(only_second - only_first) / static_cast<double>(total);
}

double PairedDifference::standard_error() const {
  if (total < 2) return 0;
  const auto n = static_cast<double>(total), changed = static_cast<double>(only_first + only_second);
  const double mean = difference();
  return std::sqrt((changed - n * mean * mean) / (n - 1) / n);
}

double PairedDifference::p_value() const {
  const auto changed = static_cast<double>(only_first + only_second);
  double sum = 0;
  for (int64_t i = 0; i <= std::min(only_first, only_second); ++i) {
    const auto k = static_cast<double>(i);
    sum += std::exp(std::lgamma(changed + 1) - std::lgamma(k + 1) - std::lgamma(changed - k + 1) -
                    changed * std::log(2.0));
  }
  return std::min(2 * sum, 1.0);
}

}  // namespace hearth
