// The lower envelope of line charts' series.
#include "bench/winner.h"

#include <algorithm>
#include <limits>
#include <optional>

namespace hearth {
namespace {

// Within its points alone: nobody knows what comes before or behind.
std::optional<double> value_at(const Series& series, double x) {
  std::vector<Point> points = series.points;
  std::ranges::sort(points, {}, &Point::x);
  for (size_t i = 0; i < points.size(); ++i) {
    if (points[i].x == x) return points[i].y;
    if (i == 0 || points[i - 1].x > x || points[i].x < x) continue;
    const double share = (x - points[i - 1].x) / (points[i].x - points[i - 1].x);
    return points[i - 1].y + share * (points[i].y - points[i - 1].y);
  }
  return std::nullopt;
}

struct Best {
  size_t series;
  double y;
};

std::optional<Best> best_at(const std::vector<Series>& series, double x) {
  std::optional<Best> best;
  for (size_t i = 0; i < series.size(); ++i) {
    const auto y = value_at(series[i], x);
    if (y && (!best || *y < best->y)) best = {i, *y};
  }
  return best;
}

}  // namespace

Series winner(const std::vector<Series>& series) {
  std::vector<double> at;
  for (const Series& one : series) {
    for (const Point& point : one.points) at.push_back(point.x);
  }
  std::ranges::sort(at);
  at.erase(std::unique(at.begin(), at.end()), at.end());
  Series out{"best at each load", {}};
  out.marks_others = true;
  std::optional<size_t> last;
  const auto add = [&](double x, const Best& best) {
    out.points.push_back({x, best.y});
    out.labels.push_back(best.series == last ? std::string() : series[best.series].name);
    last = best.series;
  };
  for (size_t i = 0; i < at.size(); ++i) {
    const auto best = best_at(series, at[i]);
    if (!best) continue;
    // Between two loads with different winners: where their lines meet, by halves.
    if (i > 0 && last && best->series != *last) {
      double low = at[i - 1], high = at[i];
      for (int half = 0; half < 40; ++half) {
        const double middle = (low + high) / 2;
        const auto there = best_at(series, middle);
        (there && there->series == *last ? low : high) = middle;
      }
      if (const auto there = best_at(series, high); there && high < at[i]) add(high, *there);
    }
    const bool own = std::ranges::any_of(series[best->series].points, [&](const Point& p) { return p.x == at[i]; });
    if (own || best->series != last) add(at[i], *best);
  }
  return out;
}

}  // namespace hearth
