// How sure a share of right answers is, and a difference between two runs over the same questions.
#pragma once

#include <cstdint>

namespace hearth {

// The standard error of a mean of `total` answers, `right` of them 1 and the others 0.
double standard_error(int64_t right, int64_t total);

// Two runs, question by question.
struct PairedDifference {
  int64_t total = 0;
  int64_t only_first = 0, only_second = 0;  // right in one of them alone

  double difference() const;      // of the shares, second less first
  double standard_error() const;  // of the difference
  // McNemar's test, exact and two-sided: how likely a split as uneven as this one would be, were both equally good
  // (McNemar 1947).
  double p_value() const;
};

}  // namespace hearth
