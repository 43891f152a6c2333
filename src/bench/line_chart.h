// A line chart: two axes from zero, round ticks, a colour, a marker and a legend entry a series.
#pragma once

#include <string>
#include <vector>

#include "bench/canvas.h"

namespace hearth {

struct Series {
  std::string name;
  std::vector<Point> points;             // none below 0
  std::vector<std::string> labels = {};  // of points; fewer than there are: the rest have none
  bool marks_others = false;             // a broad line behind those of other series, without markers
};

struct LineChart {
  std::string title, x_label, y_label;
  std::vector<Series> series;
  std::string subtitle = {};  // what all series have in common
};

std::string svg(const LineChart& chart);
std::string png(const LineChart& chart);

}  // namespace hearth
