// SVG: an element a shape.
#include <cstdio>

#include "base/cat.h"
#include "bench/canvas.h"

namespace hearth {
namespace {

std::string number(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.5g", v);
  return text;
}

std::string hex(Color c) {
  char text[8];
  std::snprintf(text, sizeof text, "#%02x%02x%02x", c.red, c.green, c.blue);
  return text;
}

std::string joined(const std::vector<Point>& points) {
  std::string out;
  for (const Point& p : points) append(out, cat(out.empty() ? "" : " ", number(p.x), ",", number(p.y)));
  return out;
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

class SvgCanvas final : public Canvas {
 public:
  SvgCanvas(int width, int height)
      : out_(cat("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"", width, "\" height=\"", height,
                 "\" font-family=\"Open Sans, sans-serif\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<g "
                 "fill=\"",
                 hex(kInk), "\">\n")) {}

  void lines(const std::vector<Point>& points, double width, Color color) override {
    out_ += cat("<polyline fill=\"none\" stroke-linejoin=\"round\" stroke-width=\"", number(width), "\" stroke=\"",
                hex(color), "\" points=\"", joined(points), "\"/>\n");
  }
  void polygon(const std::vector<Point>& points, Color color) override {
    out_ += cat("<polygon fill=\"", hex(color), "\" points=\"", joined(points), "\"/>\n");
  }
  void text(Point at, const std::string& text, double size, Anchor anchor, bool upwards) override {
    const char* const anchors[] = {"start", "middle", "end"};
    out_ += cat("<text transform=\"translate(", number(at.x), " ", number(at.y), ")", upwards ? " rotate(-90)" : "",
                "\" font-size=\"", number(size), "\" text-anchor=\"", anchors[static_cast<int>(anchor)], "\">",
                escaped(text), "</text>\n");
  }
  std::string encoded() const override { return out_ + "</g>\n</svg>\n"; }

 private:
  std::string out_;
};

}  // namespace

std::unique_ptr<Canvas> make_svg_canvas(int width, int height) { return std::make_unique<SvgCanvas>(width, height); }

}  // namespace hearth
