// The winner's line: of several configurations, the best at each load.
#pragma once

#include <vector>

#include "bench/line_chart.h"

namespace hearth {

// The lowest of the series at each rate that one of them has, straight lines between points; a point where the winner
// changes has its name.
Series winner(const std::vector<Series>& series);

}  // namespace hearth
