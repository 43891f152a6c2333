// PNG: every shape, a letter's as well, becomes contours for stb_truetype's rasterizer; stb_image_write compresses. The
// font is in the binary. A build without it (HEARTH_PNG) makes none.
#include <algorithm>
#include <cmath>
#include <numbers>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "base/embed.h"
#include "bench/canvas.h"

#ifdef HEARTH_PLOT_FONT
#define STB_TRUETYPE_IMPLEMENTATION
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STBI_WRITE_NO_STDIO
#include <stb/stb_image_write.h>
#include <stb/stb_truetype.h>

HEARTH_EMBED(plot_font, HEARTH_PLOT_FONT)

namespace hearth {
namespace {

constexpr int kScale = 2;

// One code point off the front; what is not UTF-8 is taken byte by byte.
int next_code_point(std::string_view& text) {
  const auto first = static_cast<unsigned char>(text[0]);
  const size_t length = first < 0xC0 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  int code = length == 1 ? first : first & (0x7F >> length);
  if (length > text.size()) {
    text.remove_prefix(1);
    return first;
  }
  for (size_t i = 1; i < length; ++i) code = code << 6 | (text[i] & 0x3F);
  text.remove_prefix(length);
  return code;
}

class PngCanvas final : public Canvas {
 public:
  PngCanvas(int width, int height)
      : width_(width * kScale), height_(height * kScale), pixels_(static_cast<size_t>(width_) * height_ * 3, 255) {
    HEARTH_CHECK(stbtt_InitFont(&font_, reinterpret_cast<const unsigned char*>(embedded::plot_font().data()), 0));
  }

  void lines(const std::vector<Point>& points, double width, Color color) override {
    std::vector<stbtt_vertex> shape;
    for (size_t i = 0; i < points.size(); ++i) {
      // Round at every point.
      const double radius = width / 2;
      std::vector<Point> disc(16);
      for (size_t k = 0; k < disc.size(); ++k) {
        const double angle = 2 * std::numbers::pi * static_cast<double>(k) / static_cast<double>(disc.size());
        disc[k] = {points[i].x + radius * std::cos(angle), points[i].y + radius * std::sin(angle)};
      }
      add(shape, disc);
      if (i == 0) continue;
      const Point a = points[i - 1], b = points[i];
      const double length = std::hypot(b.x - a.x, b.y - a.y);
      if (length == 0) continue;
      const double dx = (b.x - a.x) / length * radius, dy = (b.y - a.y) / length * radius;
      add(shape, {{a.x + dy, a.y - dx}, {b.x + dy, b.y - dx}, {b.x - dy, b.y + dx}, {a.x - dy, a.y + dx}});
    }
    fill(shape, 1 / kFraction, {0, 0}, color);
  }

  void polygon(const std::vector<Point>& points, Color color) override {
    std::vector<stbtt_vertex> shape;
    add(shape, points);
    fill(shape, 1 / kFraction, {0, 0}, color);
  }

  void text(Point at, const std::string& text, double size, Anchor anchor, bool upwards) override {
    const double scale = stbtt_ScaleForMappingEmToPixels(&font_, static_cast<float>(size));
    const double length = place(text, [](int, double) {}) * scale;
    const double start = anchor == Anchor::kStart ? 0 : anchor == Anchor::kMiddle ? length / 2 : length;
    place(text, [&](int code, double x) {
      const double along = x * scale - start;
      stbtt_vertex* outline = nullptr;
      const int count = stbtt_GetCodepointShape(&font_, code, &outline);
      std::vector<stbtt_vertex> shape(outline, outline + count);
      stbtt_FreeShape(&font_, outline);
      if (upwards) {
        for (stbtt_vertex& v : shape) {
          v.x = static_cast<short>(-std::exchange(v.y, v.x));
          v.cx = static_cast<short>(-std::exchange(v.cy, v.cx));
        }
      }
      fill(shape, scale, upwards ? Point{at.x, at.y - along} : Point{at.x + along, at.y}, kInk);
    });
  }

  std::string encoded() const override {
    std::string out;
    const auto append = [](void* to, void* data, int size) {
      static_cast<std::string*>(to)->append(static_cast<const char*>(data), static_cast<size_t>(size));
    };
    stbi_write_png_to_func(append, &out, width_, height_, 3, pixels_.data(), width_ * 3);
    return out;
  }

 private:
  // Calls each(code point, x) for each letter, and returns the length of the whole, in the font's units.
  template <typename Each>
  double place(std::string_view text, Each each) const {
    double x = 0;
    for (int last = 0; !text.empty();) {
      const int code = next_code_point(text);
      if (last) x += stbtt_GetCodepointKernAdvance(&font_, last, code);
      each(code, x);
      int advance = 0;
      stbtt_GetCodepointHMetrics(&font_, code, &advance, nullptr);
      x += advance;
      last = code;
    }
    return x;
  }

  // Vertices are 16-bit integers.
  static constexpr double kFraction = 8;

  // As a contour that runs the same way whatever the way of `points`: those that overlap then join.
  static void add(std::vector<stbtt_vertex>& shape, std::vector<Point> points) {
    double area = 0;
    for (size_t i = 0; i < points.size(); ++i) {
      const Point a = points[i], b = points[(i + 1) % points.size()];
      area += a.x * b.y - b.x * a.y;
    }
    if (area < 0) std::ranges::reverse(points);
    points.push_back(points[0]);
    for (size_t i = 0; i < points.size(); ++i) {
      stbtt_vertex v{};
      v.x = static_cast<short>(std::lround(points[i].x * kFraction));
      v.y = static_cast<short>(std::lround(-points[i].y * kFraction));  // a font's y grows upwards
      v.cx = v.x, v.cy = v.y;
      v.type = i == 0 ? STBTT_vmove : STBTT_vline;
      shape.push_back(v);
    }
  }

  // `from` is where the shape's origin stands, `scale` the length of its unit.
  void fill(std::vector<stbtt_vertex> shape, double scale, Point from, Color color) {
    const double left = from.x * kScale, top = from.y * kScale;
    scale *= kScale;
    double min_x = width_, max_x = 0, min_y = height_, max_y = 0;
    for (const stbtt_vertex& v : shape) {
      min_x = std::min(min_x, left + scale * std::min(v.x, v.cx));
      max_x = std::max(max_x, left + scale * std::max(v.x, v.cx));
      min_y = std::min(min_y, top - scale * std::max(v.y, v.cy));
      max_y = std::max(max_y, top - scale * std::min(v.y, v.cy));
    }
    const int x = std::max(0, static_cast<int>(min_x)), y = std::max(0, static_cast<int>(min_y));
    const int w = std::min(width_, static_cast<int>(max_x) + 2) - x;
    const int h = std::min(height_, static_cast<int>(max_y) + 2) - y;
    if (w <= 0 || h <= 0) return;
    std::vector<unsigned char> mask(static_cast<size_t>(w) * h);
    stbtt__bitmap bitmap{w, h, w, mask.data()};
    stbtt_Rasterize(&bitmap, 0.1f, shape.data(), static_cast<int>(shape.size()), static_cast<float>(scale),
                    static_cast<float>(scale), static_cast<float>(left), static_cast<float>(top), x, y, 1, nullptr);
    for (int row = 0; row < h; ++row) {
      for (int column = 0; column < w; ++column) {
        const int cover = mask[static_cast<size_t>(row) * w + column];
        unsigned char* pixel = &pixels_[(static_cast<size_t>(y + row) * width_ + x + column) * 3];
        const int channels[] = {color.red, color.green, color.blue};
        for (int c = 0; c < 3; ++c)
          pixel[c] = static_cast<unsigned char>((pixel[c] * (255 - cover) + channels[c] * cover + 127) / 255);
      }
    }
  }

  const int width_, height_;
  stbtt_fontinfo font_{};
  std::vector<unsigned char> pixels_;  // [height, width, 3]
};

}  // namespace

std::unique_ptr<Canvas> make_png_canvas(int width, int height) { return std::make_unique<PngCanvas>(width, height); }

}  // namespace hearth

#else

namespace hearth {
std::unique_ptr<Canvas> make_png_canvas(int, int) { return nullptr; }
}  // namespace hearth

#endif
