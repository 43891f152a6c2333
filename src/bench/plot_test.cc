#include "bench/plot.h"

#include <unistd.h>

#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>

#include "bench/line_chart.h"

#define STB_IMAGE_IMPLEMENTATION
#define STBI_ONLY_PNG
#include <stb/stb_image.h>

namespace hearth {
namespace {

std::string contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

struct Image {
  explicit Image(const std::string& png) {
    int channels = 0;
    unsigned char* const data = stbi_load_from_memory(reinterpret_cast<const unsigned char*>(png.data()),
                                                      static_cast<int>(png.size()), &width, &height, &channels, 3);
    if (data) pixels.assign(data, data + static_cast<size_t>(width) * height * 3);
    stbi_image_free(data);
  }
  using Channels = std::array<int, 3>;
  Channels at(int x, int y) const {
    const unsigned char* p = &pixels[(static_cast<size_t>(y) * width + x) * 3];
    return {p[0], p[1], p[2]};
  }
  // Pixels of a rectangle that `wanted` holds for.
  int count(int left, int top, int right, int bottom, const std::function<bool(Channels)>& wanted) const {
    int out = 0;
    for (int y = top; y < bottom; ++y) {
      for (int x = left; x < right; ++x) out += wanted(at(x, y));
    }
    return out;
  }
  int width = 0, height = 0;
  std::vector<unsigned char> pixels;
};

TEST(Canvas, BothDrawTheSameShapes) {
  const auto draw = [](Canvas& canvas) {
    canvas.polygon({{10, 10}, {30, 10}, {30, 30}, {10, 30}}, {200, 0, 0});
    canvas.polygon({{40, 30}, {60, 30}, {60, 10}, {40, 10}}, {0, 200, 0});  // the other way round
    canvas.lines({{10, 50}, {50, 50}, {50, 90}}, 4, {0, 0, 200});
    canvas.text({100, 50}, "Ag<", 20, Anchor::kMiddle);
    canvas.text({150, 50}, "Ag", 20, Anchor::kMiddle, true);
  };
  const auto svg = make_svg_canvas(200, 100);
  draw(*svg);
  for (const char* piece :
       {"fill=\"#c80000\" points=\"10,10 30,10 30,30 10,30\"", "stroke-width=\"4\" stroke=\"#0000c8\"",
        "text-anchor=\"middle\">Ag&lt;</text>", "rotate(-90)"}) {
    EXPECT_NE(svg->encoded().find(piece), std::string::npos) << piece;
  }

  const auto canvas = make_png_canvas(200, 100);
  draw(*canvas);
  const Image image(canvas->encoded());
  ASSERT_EQ(image.width, 400);
  ASSERT_EQ(image.height, 200);
  using Channels = Image::Channels;
  const Channels white{255, 255, 255};
  EXPECT_EQ(image.at(40, 40), (Channels{200, 0, 0}));
  EXPECT_EQ(image.at(100, 40), (Channels{0, 200, 0}));
  EXPECT_EQ(image.at(70, 40), white);
  EXPECT_EQ(image.at(60, 100), (Channels{0, 0, 200}));
  EXPECT_EQ(image.at(100, 100), (Channels{0, 0, 200}));  // where the lines meet
  EXPECT_EQ(image.at(100, 140), (Channels{0, 0, 200}));
  EXPECT_EQ(image.at(60, 95), white);
  const auto ink = [](Channels c) { return c[0] < 128; };
  EXPECT_GT(image.count(160, 60, 240, 100, ink), 100);  // above its baseline, about x = 100
  EXPECT_GT(image.count(160, 102, 240, 115, ink), 10);  // g's tail
  EXPECT_GT(image.count(260, 70, 300, 130, ink), 100);  // left of its baseline
  EXPECT_EQ(image.count(310, 0, 400, 200, ink), 0);
}

TEST(Canvas, TakesAnyText) {
  const auto canvas = make_png_canvas(100, 40);
  canvas->text({50, 20}, "\xff\xe2\x82 \xf0\x9f\x94\xa5 \xc3", 12, Anchor::kMiddle);
  canvas->text({-500, 20}, std::string(10'000, 'x'), 12, Anchor::kStart);
  EXPECT_EQ(Image(canvas->encoded()).width, 200);
}

TEST(LineChart, HasTicksLegendsAndLines) {
  const LineChart chart{"A & B", "load", "time", {{"one <run>", {{2, 0.5}, {8, 4}}}, {"another", {{4, 3}}}}};
  const std::string drawn = svg(chart);
  for (const char* piece : {"A &amp; B", "one &lt;run&gt;", ">another<", ">load<", ">time<", ">8<", ">0.5<", ">3.5<"}) {
    EXPECT_NE(drawn.find(piece), std::string::npos) << piece;
  }
  EXPECT_EQ(drawn.find(">4.5<"), std::string::npos);
  const Image image(png(chart));
  ASSERT_EQ(image.width, 1440);
  const auto first = [](Image::Channels c) { return c == Image::Channels{0xc2, 0x41, 0x0c}; };
  EXPECT_GT(image.count(200, 150, 1440, 760, first), 1000);
  EXPECT_GT(svg({"nothing", "x", "y", {}}).size(), 100u);
  EXPECT_GT(svg({"zeros", "x", "y", {{"flat", {{0, 0}, {0, 0}}}}}).size(), 100u);
}

TEST(LineChart, ALegendOfManySeriesStandsBelow) {
  LineChart chart{"many", "load", "time", {}};
  for (int i = 0; i < 4; ++i) chart.series.push_back({std::to_string(i) + " runs", {{1, 1}, {8, 4}}});
  EXPECT_EQ(Image(png(chart)).height, 880);
  chart.series.push_back({"best", {{1, 1}}});
  EXPECT_EQ(Image(png(chart)).height, 880 + 3 * 40) << "three rows of two";
  EXPECT_NE(svg(chart).find(">best<"), std::string::npos);
}

class Plot : public testing::Test {
 protected:
  Plot() { std::filesystem::create_directory(folder_); }
  ~Plot() override { std::filesystem::remove_all(folder_); }
  std::string file(const std::string& name, const std::string& text) {
    std::ofstream(folder_ + name) << text;
    return folder_ + name;
  }
  const std::string folder_ = testing::TempDir() + "hearth_plot_test_" + std::to_string(getpid()) + "/";
};

TEST_F(Plot, DrawsRunsOfAllFilesInTheOrderAsked) {
  const std::string one = file("one.json", R"({"label": "first", "loads":
      [{"rate": 3, "total_s": {"p50": 1.5}, "tpot_s": {"p50": 0.02}}]})");
  const std::string several = file("several.json", R"({"gpu": "none", "second": [{"alone": 8, "total_s": {"p50": 9}},
      {"rate": 4, "total_s": {"p50": 2}, "tpot_ms": {"p50": 70}}], "third": []})");
  ASSERT_TRUE(plot_runs({one, several}, {}, folder_ + "all").ok());
  const std::string total = contents(folder_ + "all-latency.svg"), token = contents(folder_ + "all-token-latency.svg");
  for (const char* label : {">first<", ">second<", ">third<"}) EXPECT_NE(total.find(label), std::string::npos) << label;
  EXPECT_NE(total.find(">2<"), std::string::npos);   // seconds
  EXPECT_EQ(total.find(">9<"), std::string::npos);   // no load
  EXPECT_NE(token.find(">70<"), std::string::npos);  // milliseconds
  for (const char* name : {"all-latency.png", "all-token-latency.png"}) {
    EXPECT_EQ(Image(contents(folder_ + name)).height, 880) << name;
  }

  ASSERT_TRUE(plot_runs({one, several}, {"second", "first"}, folder_ + "two").ok());
  const std::string two = contents(folder_ + "two-latency.svg");
  EXPECT_LT(two.find(">second<"), two.find(">first<"));
  EXPECT_EQ(two.find(">third<"), std::string::npos);
}

TEST_F(Plot, SaysWhatItIsARunOf) {
  const auto run = [&](const std::string& label, const std::string& machine) {
    return file(label + ".json", R"({"label": ")" + label + R"(", "model": "m", "machine": ")" + machine +
                                     R"(", "date": "2026-12-01", "input_tokens": 1000, "output_tokens": 50, "loads":
      [{"rate": 3, "concurrency": 8, "total_s": {"p50": 1.5}, "tpot_s": {"p50": 0.02}}]})");
  };
  const std::string a = run("a", "1 x H200"), b = run("b", "1 x H200"), c = run("c", "1 x H100");
  ASSERT_TRUE(plot_runs({a, b}, {}, folder_ + "same").ok());
  const std::string same = contents(folder_ + "same-latency.svg");
  EXPECT_NE(same.find(">m, 1 x H200, 1000 tokens in, 50 out, 2026-12-01<"), std::string::npos);
  EXPECT_NE(same.find(">8 at once<"), std::string::npos);
  EXPECT_NE(same.find(">a<"), std::string::npos);
  ASSERT_TRUE(plot_runs({a, c}, {}, folder_ + "other").ok());
  const std::string other = contents(folder_ + "other-token-latency.svg");
  EXPECT_NE(other.find(">a (m, 1 x H200, 1000 tokens in, 50 out, 2026-12-01)<"), std::string::npos);
  EXPECT_NE(other.find(">c (m, 1 x H100, 1000 tokens in, 50 out, 2026-12-01)<"), std::string::npos);
}

TEST_F(Plot, RefusesWhatIsNoResult) {
  const std::string good = file("good.json", R"({"label": "a", "loads": []})");
  EXPECT_EQ(plot_runs({folder_ + "absent.json"}, {}, folder_ + "x").code(), Code::kNotFound);
  EXPECT_EQ(plot_runs({file("bad.json", "{")}, {}, folder_ + "x").code(), Code::kInvalidArgument);
  for (const char* text :
       {R"({"loads": []})", R"({"label": "a", "loads": [{"rate": 1}]})", R"({"a": 1})", R"({"a": [1]})",
        R"({"a": 1, "loads": 1})", R"({"a": [{"rate": -1, "total_s": {"p50": 1}, "tpot_s": {"p50": 1}}]})",
        R"({"a": [{"rate": "1", "total_s": {"p50": 1}, "tpot_s": {"p50": 1}}]})"}) {
    EXPECT_EQ(plot_runs({file("odd.json", text)}, {}, folder_ + "x").code(), Code::kInvalidArgument) << text;
  }
  EXPECT_EQ(plot_runs({good}, {"b"}, folder_ + "x").code(), Code::kNotFound);
  EXPECT_EQ(plot_runs({good}, {}, folder_ + "no/such/folder/x").code(), Code::kUnavailable);
  EXPECT_FALSE(std::filesystem::exists(folder_ + "x-latency.svg"));
}

}  // namespace
}  // namespace hearth
