// Canvas: the few shapes that a plot is made of, drawn into an SVG document or a PNG image. Lengths are SVG's pixels, y
// grows downwards.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace hearth {

struct Point {
  double x = 0, y = 0;
};

struct Color {
  uint8_t red = 0, green = 0, blue = 0;
};

constexpr Color kInk{0x1e, 0x29, 0x3b};  // of text

enum class Anchor { kStart, kMiddle, kEnd };

class Canvas {
 public:
  virtual ~Canvas() = default;
  // Joined one to the next.
  virtual void lines(const std::vector<Point>& points, double width, Color color) = 0;
  // A filled convex polygon.
  virtual void polygon(const std::vector<Point>& points, Color color) = 0;
  // One line in UTF-8; `at` lies on its baseline. Upwards: turned by 90 degrees.
  virtual void text(Point at, const std::string& text, double size, Anchor anchor, bool upwards = false) = 0;
  // What the file holds.
  virtual std::string encoded() const = 0;
};

std::unique_ptr<Canvas> make_svg_canvas(int width, int height);
// Twice as many pixels each way. Null in a build without PNG.
std::unique_ptr<Canvas> make_png_canvas(int width, int height);

}  // namespace hearth
