// SVG by hand: two axes, round ticks, a coloured line and a legend entry a series.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "bench/report.h"

namespace hearth {
namespace {

constexpr double kWidth = 720, kHeight = 440, kLeft = 70, kRight = 24, kTop = 48, kBottom = 56;
constexpr std::array<const char*, 6> kColors = {"#c2410c", "#1d4ed8", "#15803d", "#7e22ce", "#a16207", "#475569"};

// A step of 1, 2 or 5 times a power of ten that gives at most eight ticks.
double tick_step(double range) {
  const double rough = range / 8;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  for (double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough) return factor * power;
  }
  return 10 * power;
}

std::string number(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.5g", v);
  return text;
}

std::string escaped(const std::string& text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '&': out += "&amp;"; break;
      default: out += c;
    }
  }
  return out;
}

std::string text_at(double x, double y, const std::string& anchor, const std::string& text, const char* extra = "") {
  return cat("<text x=\"", number(x), "\" y=\"", number(y), "\" text-anchor=\"", anchor, "\" ", extra, ">",
             escaped(text), "</text>\n");
}

std::string line(double x1, double y1, double x2, double y2, const char* color) {
  return cat("<line x1=\"", number(x1), "\" y1=\"", number(y1), "\" x2=\"", number(x2), "\" y2=\"", number(y2),
             "\" stroke=\"", color, "\"/>\n");
}

}  // namespace

std::string line_chart_svg(const std::string& title, const std::string& x_label, const std::string& y_label,
                           const std::vector<Series>& series) {
  double x_max = 0, y_max = 0;
  for (const Series& s : series) {
    for (auto [x, y] : s.points) {
      x_max = std::max(x_max, x);
      y_max = std::max(y_max, y);
    }
  }
  const double x_step = tick_step(x_max > 0 ? x_max : 1), y_step = tick_step(y_max > 0 ? y_max : 1);
  x_max = x_step * std::max(1.0, std::ceil(x_max / x_step));
  y_max = y_step * std::max(1.0, std::ceil(y_max / y_step));
  const double bottom = kHeight - kBottom, right = kWidth - kRight;
  const auto px = [&](double x) { return kLeft + x / x_max * (right - kLeft); };
  const auto py = [&](double y) { return bottom - y / y_max * (bottom - kTop); };

  std::string out = cat("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"", number(kWidth), "\" height=\"",
                        number(kHeight), "\" font-family=\"sans-serif\" font-size=\"13\">\n",
                        "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n");
  out += text_at(kWidth / 2, 24, "middle", title, "font-size=\"16\"");
  for (int i = 0; i * x_step <= x_max * 1.0001; ++i) {
    out += line(px(i * x_step), kTop, px(i * x_step), bottom, "#e2e8f0");
    out += text_at(px(i * x_step), bottom + 18, "middle", number(i * x_step));
  }
  for (int i = 0; i * y_step <= y_max * 1.0001; ++i) {
    out += line(kLeft, py(i * y_step), right, py(i * y_step), "#e2e8f0");
    out += text_at(kLeft - 8, py(i * y_step) + 4, "end", number(i * y_step));
  }
  out += text_at((kLeft + right) / 2, kHeight - 14, "middle", x_label);
  out += text_at(0, 0, "middle", y_label,
                 cat("transform=\"translate(18 ", number((kTop + bottom) / 2), ") rotate(-90)\"").c_str());
  for (size_t i = 0; i < series.size(); ++i) {
    const char* color = kColors[i % kColors.size()];
    std::string path;
    for (auto [x, y] : series[i].points) append(path, cat(number(px(x)), ",", number(py(y)), " "));
    out += cat("<polyline fill=\"none\" stroke-width=\"2\" stroke=\"", color, "\" points=\"", path, "\"/>\n");
    for (auto [x, y] : series[i].points) {
      out += cat("<circle r=\"3\" fill=\"", color, "\" cx=\"", number(px(x)), "\" cy=\"", number(py(y)), "\"/>\n");
    }
    const double y = kTop + 16 + 18 * static_cast<double>(i);
    out += line(kLeft + 12, y - 4, kLeft + 36, y - 4, color);
    out += text_at(kLeft + 42, y, "start", series[i].name);
  }
  return out + "</svg>\n";
}

}  // namespace hearth
