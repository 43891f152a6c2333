// The drawing, whatever it is drawn on.
#include "bench/line_chart.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <numbers>

namespace hearth {
namespace {

constexpr int kWidth = 720, kHeight = 440;
constexpr double kLeft = 64, kRight = 696, kTop = 56, kBottom = 386;
constexpr double kText = 13, kTitle = 16, kSmall = 11;
constexpr double kBroad = 8;
constexpr size_t kMostInside = 4;  // series whose legend stands in the plot; that of more would hide lines
constexpr double kRow = 20;        // of the legend
constexpr Color kMark{0xfd, 0xe0, 0x47};
constexpr Color kGrid{0xe2, 0xe8, 0xf0}, kAxis{0x64, 0x74, 0x8b};
constexpr std::array<Color, 6> kColors = {{{0xc2, 0x41, 0x0c},
                                           {0x1d, 0x4e, 0xd8},
                                           {0x15, 0x80, 0x3d},
                                           {0x7e, 0x22, 0xce},
                                           {0xa1, 0x62, 0x07},
                                           {0x47, 0x55, 0x69}}};
// By series, so that they differ without colour: corners, and how far the first is turned from the bottom, in corners.
constexpr std::array<std::pair<int, double>, 4> kMarkers = {{{24, 0}, {4, 0.5}, {3, 1.5}, {4, 0}}};

// From 0 to the first tick at or beyond all values.
struct Axis {
  double step, end;

  // A step of 1, 2 or 5 times a power of ten gives at most eight ticks.
  explicit Axis(double largest) {
    if (largest <= 0) largest = 1;
    const double rough = largest / 8;
    const double power = std::pow(10.0, std::floor(std::log10(rough)));
    step = 10 * power;
    for (double factor : {5.0, 2.0, 1.0}) {
      if (factor * power >= rough) step = factor * power;
    }
    end = step * std::ceil(largest / step * (1 - 1e-9));
  }
};

std::string number(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.5g", v);
  return text;
}

void marker(Canvas& canvas, Point at, size_t series) {
  const auto [corners, turn] = kMarkers[series % kMarkers.size()];
  const double radius = corners > 4 ? 4 : 5;
  std::vector<Point> points;
  for (int i = 0; i < corners; ++i) {
    const double angle = 2 * std::numbers::pi * (i + turn) / corners;
    points.push_back({at.x + radius * std::sin(angle), at.y + radius * std::cos(angle)});
  }
  canvas.polygon(points, kColors[series % kColors.size()]);
}

bool legend_is_below(const LineChart& chart) { return chart.series.size() > kMostInside; }

int height(const LineChart& chart) {
  const size_t rows = legend_is_below(chart) ? (chart.series.size() + 1) / 2 : 0;
  return kHeight + static_cast<int>(kRow * static_cast<double>(rows));
}

// Where an entry begins: in the plot one below the other, or under it in two columns.
Point legend_entry(const LineChart& chart, size_t i) {
  if (!legend_is_below(chart)) return {kLeft + 14, kTop + 18 + kRow * static_cast<double>(i)};
  return {kLeft + 14 + (i % 2 == 0 ? 0 : (kRight - kLeft) / 2), kHeight + 6 + kRow * static_cast<double>(i / 2)};
}

void draw(const LineChart& chart, Canvas& canvas) {
  double largest_x = 0, largest_y = 0;
  for (const Series& s : chart.series) {
    for (const Point p : s.points) largest_x = std::max(largest_x, p.x), largest_y = std::max(largest_y, p.y);
  }
  const Axis x(largest_x), y(largest_y);
  const auto place = [&](Point p) {
    return Point{kLeft + p.x / x.end * (kRight - kLeft), kBottom - p.y / y.end * (kBottom - kTop)};
  };

  canvas.text({(kLeft + kRight) / 2, 24}, chart.title, kTitle, Anchor::kMiddle);
  if (!chart.subtitle.empty()) canvas.text({(kLeft + kRight) / 2, 43}, chart.subtitle, kSmall, Anchor::kMiddle);
  for (int i = 0; i * x.step <= x.end * 1.0001; ++i) {
    const double at = place({i * x.step, 0}).x;
    canvas.lines({{at, kTop}, {at, kBottom}}, 1, kGrid);
    canvas.text({at, kBottom + 19}, number(i * x.step), kText, Anchor::kMiddle);
  }
  for (int i = 0; i * y.step <= y.end * 1.0001; ++i) {
    const double at = place({0, i * y.step}).y;
    canvas.lines({{kLeft, at}, {kRight, at}}, 1, kGrid);
    canvas.text({kLeft - 8, at + 4.5}, number(i * y.step), kText, Anchor::kEnd);
  }
  canvas.lines({{kLeft, kTop}, {kLeft, kBottom}, {kRight, kBottom}}, 1, kAxis);
  canvas.text({(kLeft + kRight) / 2, kHeight - 14}, chart.x_label, kText, Anchor::kMiddle);
  canvas.text({20, (kTop + kBottom) / 2}, chart.y_label, kText, Anchor::kMiddle, true);

  const auto placed = [&](const Series& series) {
    std::vector<Point> points;
    for (const Point p : series.points) points.push_back(place(p));
    return points;
  };
  for (const Series& series : chart.series) {
    if (series.marks_others) canvas.lines(placed(series), kBroad, kMark);
  }
  for (size_t i = 0; i < chart.series.size(); ++i) {
    const std::vector<Point> points = placed(chart.series[i]);
    const bool marks = chart.series[i].marks_others;
    if (!marks) {
      canvas.lines(points, 2, kColors[i % kColors.size()]);
      for (const Point p : points) marker(canvas, p, i);
    }
    for (size_t j = 0; j < std::min(points.size(), chart.series[i].labels.size()); ++j) {
      canvas.text({points[j].x + 8, points[j].y + 13}, chart.series[i].labels[j], kSmall, Anchor::kStart);
    }
    const auto [left, row] = legend_entry(chart, i);
    canvas.lines({{left, row}, {left + 28, row}}, marks ? kBroad : 2, marks ? kMark : kColors[i % kColors.size()]);
    if (!marks) marker(canvas, {left + 14, row}, i);
    canvas.text({left + 36, row + 4.5}, chart.series[i].name, kText, Anchor::kStart);
  }
}

}  // namespace

std::string svg(const LineChart& chart) {
  const auto canvas = make_svg_canvas(kWidth, height(chart));
  draw(chart, *canvas);
  return canvas->encoded();
}

std::string png(const LineChart& chart) {
  const auto canvas = make_png_canvas(kWidth, height(chart));
  if (canvas == nullptr) return "";
  draw(chart, *canvas);
  return canvas->encoded();
}

}  // namespace hearth
