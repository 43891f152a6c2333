#include "weights/weight_reader.h"

#include <gtest/gtest.h>

#include <cmath>

#include "weights/test_files.h"

namespace hearth {
namespace {

using test::floats;
using test::TempFolder;
using test::TestTensor;

TestTensor e4m3(std::string name, int64_t rows, int64_t columns) {
  return {std::move(name), "F8_E4M3", {rows, columns}, std::string(static_cast<size_t>(rows * columns), 0x38)};  // 1.0
}

struct Opened {
  TempFolder folder;
  std::shared_ptr<const Checkpoint> checkpoint;
  explicit Opened(const std::vector<TestTensor>& tensors) {
    folder.write("model.safetensors", test::safetensors(tensors));
    auto opened = open_safetensors_folder(folder.path());
    EXPECT_TRUE(opened.ok()) << opened.status().message();
    checkpoint = *opened;
  }
  WeightReader reader(bool check_only = false) const { return WeightReader(*checkpoint, check_only); }
};

std::vector<float> values(const Tensor& t) { return {t.as<float>(), t.as<float>() + t.shape.elements()}; }

TEST(WeightReader, BringsScalesToChannelOrBlock) {
  // 130 x 3: two blocks of rows.
  const auto scales_of = [](TestTensor scale) {
    const Opened opened({e4m3("w.weight", 130, 3), std::move(scale)});
    auto reader = opened.reader();
    auto matrix = reader.matrix("w", 130, 3);
    EXPECT_TRUE(matrix.ok()) << matrix.status().message();
    EXPECT_TRUE(reader.finish().ok());
    return std::pair(matrix->matrix.kind, values(matrix->matrix.scales));
  };
  const std::vector<float> all(130, 0.5f);
  for (const std::vector<int64_t>& shape : std::vector<std::vector<int64_t>>{{}, {1}, {1, 1}}) {
    EXPECT_EQ(scales_of(floats("w.weight_scale", shape, {0.5f})), std::pair(WeightScales::kChannel, all));
  }
  EXPECT_EQ(scales_of(floats("w.weight_scale", {130, 1}, all)), std::pair(WeightScales::kChannel, all));
  EXPECT_EQ(scales_of(floats("w.weight_scale", {130}, all)), std::pair(WeightScales::kChannel, all));
  EXPECT_EQ(scales_of(floats("w.weight_scale_inv", {2, 1}, {2, 3})),
            std::pair(WeightScales::kBlock, std::vector<float>{2, 3}));
  EXPECT_EQ(scales_of({"w.weight_scale", "BF16", {1}, test::raw(to_bf16(0.5f))}),
            std::pair(WeightScales::kChannel, all));
  EXPECT_EQ(scales_of({"w.weight_scale", "F16", {}, test::raw(to_f16(0.5f))}), std::pair(WeightScales::kChannel, all));

  const Opened opened({e4m3("w.weight", 130, 3), floats("w.weight_scale_inv", {2, 1}, {2, 3})});
  const auto wide = opened.reader().unquantized("w", 130, 3);
  EXPECT_EQ(wide->matrix.kind, WeightScales::kNone);
  EXPECT_EQ(wide->matrix.data.as<float>()[127 * 3], 2);
  EXPECT_EQ(wide->matrix.data.as<float>()[128 * 3], 3);
}

TEST(WeightReader, RefusesBadScalesBeforeReadingWeights) {
  struct Bad {
    const char* message;
    std::vector<TestTensor> tensors;
  };
  const TestTensor w = e4m3("w.weight", 4, 3), good = floats("w.weight_scale", {}, {0.5f});
  const std::vector<Bad> all = {
      {"w.weight: float8 weights: expected one of weight_scale and weight_scale_inv, found neither", {w}},
      {"w.weight: float8 weights: expected one of weight_scale and weight_scale_inv, found both",
       {w, good, floats("w.weight_scale_inv", {}, {1})}},
      {"w.weight_scale: expected scales above 0, found 0 at 0", {w, floats("w.weight_scale", {}, {0})}},
      {"w.weight_scale: expected scales above 0, found nan at 2", {w, floats("w.weight_scale", {4}, {1, 1, NAN, 1})}},
      {"w.weight_scale: expected scales above 0, found inf at 0", {w, floats("w.weight_scale", {}, {INFINITY})}},
      {"w.weight_scale: expected scales above 0, found -1 at 0", {w, floats("w.weight_scale", {}, {-1})}},
      {"w.weight_scale: expected one scale, [4, 1] or [1, 1], found [3]",
       {w, floats("w.weight_scale", {3}, {1, 1, 1})}},
      {"w.weight_scale: expected float32, float16 or bfloat16, found uint8", {w, {"w.weight_scale", "U8", {1}, "\1"}}},
      {"w.input_scale: expected scales above 0, found 0", {w, good, floats("w.input_scale", {1}, {0})}},
      {"w.input_scale: expected scales above 0, found nan", {w, good, floats("w.input_scale", {}, {NAN})}},
      {"w.input_scale: expected one scale, found [2]", {w, good, floats("w.input_scale", {2}, {1, 1})}},
      {"w.weight: expected [4, 3], found [4, 2]", {e4m3("w.weight", 4, 2), good}},
      {"w.weight: expected [4, 3], found no such tensor", {good}},
      {"w.weight: expected float32, float16 or bfloat16, found int8", {{"w.weight", "I8", {4, 3}, std::string(12, 1)}}},
      {"stray: expected no such tensor in this model, found [1]", {w, good, floats("stray", {1}, {1})}},
      {"w.weight_scale: expected no such tensor", {floats("w.weight", {4, 3}, std::vector<float>(12)), good}},
  };
  for (const Bad& bad : all) {
    const Opened opened(bad.tensors);
    auto reader = opened.reader(/*check_only=*/true);
    Status status = detail::status_of(reader.matrix("w", 4, 3));
    if (status.ok()) status = reader.finish();
    ASSERT_FALSE(status.ok()) << bad.message;
    EXPECT_NE(status.message().find(bad.message), std::string::npos) << status.message();
    EXPECT_NE(status.message().find(opened.folder.path().string()), std::string::npos) << status.message();
  }
}

TEST(WeightReader, ToleratesWhatNoForwardPassReads) {
  const Opened opened({e4m3("w.weight", 4, 3), floats("w.weight_scale", {}, {1}), floats("w.input_scale", {}, {1}),
                       floats("layers.0.attention.rotary_emb.inv_freq", {2}, {1, 1}),
                       floats("layers.0.attention.q_scale", {}, {1})});
  auto reader = opened.reader(/*check_only=*/true);
  EXPECT_TRUE(reader.matrix("w", 4, 3).ok());
  EXPECT_TRUE(reader.finish().ok());
  EXPECT_EQ(reader.bytes(), 12);
}

TEST(WeightReader, GivesTheScaleOfAMatrixsInput) {
  const Opened opened({e4m3("w.weight", 4, 3), floats("w.weight_scale", {}, {2}), floats("w.input_scale", {}, {0.5f}),
                       e4m3("v.weight", 4, 3), floats("v.weight_scale", {}, {2})});
  auto reader = opened.reader();
  auto w = reader.matrix("w", 4, 3), v = reader.matrix("v", 4, 3);
  ASSERT_TRUE(w.ok() && v.ok());
  EXPECT_EQ(w->input_scale, 0.5f);
  EXPECT_EQ(v->input_scale, 0);
  w->scale(3);
  EXPECT_EQ(w->matrix.scales.as<float>()[3], 6);
  EXPECT_EQ(v->matrix.scales.as<float>()[3], 2);
}

TEST(WeightReader, FindsKvScalesUnderEveryName) {
  for (const char* name : {"a.attention.k_scale", "a.k.k_scale", "a.k.output_scale", "a.attention.kv_scale"}) {
    const Opened opened({floats(name, {}, {0.25f})});
    auto reader = opened.reader();
    const auto scale = reader.kv_scale("a.", 'k', 2);
    ASSERT_TRUE(scale.ok()) << scale.status().message();
    EXPECT_EQ(values(scale->view), (std::vector<float>{0.25f, 0.25f})) << name;
    EXPECT_TRUE(reader.finish().ok()) << name;
    EXPECT_EQ(reader.static_kv_scales(), 1);
    // v has a scale only where one serves both.
    EXPECT_EQ(static_cast<bool>(reader.kv_scale("a.", 'v', 2)->view), std::string(name) == "a.attention.kv_scale");
  }
  const Opened per_head({floats("a.attention.v_scale", {2}, {1, 2})});
  EXPECT_EQ(values(per_head.reader().kv_scale("a.", 'v', 2)->view), (std::vector<float>{1, 2}));
  EXPECT_NE(per_head.reader().kv_scale("a.", 'v', 4).status().message().find("expected one scale or 4, found [2]"),
            std::string::npos);
  const Opened zero({floats("a.attention.v_scale", {}, {0})});
  EXPECT_NE(zero.reader().kv_scale("a.", 'v', 4).status().message().find("expected scales above 0, found 0"),
            std::string::npos);
}

}  // namespace
}  // namespace hearth
