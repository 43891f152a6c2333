#include "weights/mxfp4.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "weights/safetensors.h"
#include "weights/test_files.h"

namespace hearth {
namespace {

using test::safetensors;
using test::TempFolder;

constexpr const char* kGolden = "tests/golden/models/mxfp4_rows";

Result<std::shared_ptr<const Checkpoint>> open(const std::filesystem::path& folder) {
  HEARTH_ASSIGN(auto file, open_safetensors_folder(folder));
  return pair_mxfp4(std::move(file));
}

// tools/make_model_goldens.py: what transformers makes of the same codes and exponents, in float32.
TEST(Mxfp4, EqualsTheReferenceToTheBitWhereE4m3HoldsTheRow) {
  const auto file = open(kGolden);
  ASSERT_TRUE(file.ok()) << file.status().message();
  const auto golden = SafetensorsFile::open(std::string(kGolden) + "/expected.safetensors");
  ASSERT_TRUE(golden.ok());
  const Tensor& expected = golden->tensors().find("rows")->second;
  const Checkpoint::Entry& entry = (*file)->entries().find("rows")->second;
  ASSERT_EQ(entry.shape, (Shape{1, 96, 160}));
  EXPECT_TRUE(entry.mxfp4);
  // In parts, as ranks and stacked experts read it: whole rows, some columns, every other row.
  int64_t rounded = 0, exact_rows = 0;
  for (const MatrixPart& part : {MatrixPart{{0, 96}, {0, 160}}, MatrixPart{{10, 90}, {40, 121}},
                                 MatrixPart{{1, 96}, {0, 160}, 2}, MatrixPart{{5, 6}, {159, 160}}}) {
    const auto rows = (*file)->read_scaled("rows", part);
    ASSERT_TRUE(rows.ok()) << rows.status().message();
    ASSERT_EQ(rows->data.view.shape, part.shape());
    const auto plain = (*file)->read_part("rows", part);
    ASSERT_TRUE(plain.ok()) << plain.status().message();
    int64_t inexact = 0;
    for (int64_t r = 0; r < part.shape()[0]; ++r) {
      const float* want = expected.as<float>() + (part.rows.begin + r * part.row_step) * 160 + part.columns.begin;
      const float scale = rows->scales.view.as<float>()[r];
      int exponent;
      EXPECT_EQ(std::frexp(scale, &exponent), 0.5f) << "no power of two";
      float largest = 0;
      bool same = true;
      for (int64_t c = 0; c < part.columns.size(); ++c) largest = std::max(largest, std::fabs(want[c]));
      for (int64_t c = 0; c < part.columns.size(); ++c) {
        const int64_t at = r * part.columns.size() + c;
        EXPECT_EQ(to_float(plain->view.as<BF16>()[at]), want[c]);
        const float found = to_float(rows->data.view.as<E4M3>()[at]) * scale;
        same &= found == want[c];
        EXPECT_LE(std::fabs(found - want[c]), largest * 0x1p-18f);
      }
      inexact += !same;
    }
    EXPECT_EQ(rows->rounded, inexact);
    if (part.shape()[0] == 96) rounded = inexact, exact_rows = 96 - inexact;
  }
  EXPECT_GT(rounded, 10);
  EXPECT_GT(exact_rows, 50);
}

// Every value at every distance from a row's largest: exact down to 15 exponents below, all of them.
TEST(Mxfp4, HoldsFifteenExponents) {
  for (int distance = 0; distance < 30; ++distance) {
    for (uint8_t largest = 1; largest < 8; ++largest) {
      for (uint8_t code = 1; code < 8; ++code) {
        uint8_t codes[2][16] = {}, exponents[2] = {130, static_cast<uint8_t>(130 - distance)};
        codes[0][3] = largest, codes[1][7] = static_cast<uint8_t>(code << 4 | 8);  // the lower a negative zero
        const auto rows = mxfp4_to_e4m3(1, {0, 64}, "test", [&](int64_t) {
          return Mxfp4Row{codes[0], exponents, 16, 1, false};
        });
        ASSERT_TRUE(rows.ok());
        constexpr float kValues[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
        const float scale = *rows->scales.view.as<float>();
        EXPECT_EQ(to_float(rows->data.view.as<E4M3>()[6]) * scale, std::ldexp(kValues[largest], 3));
        const bool same =
            to_float(rows->data.view.as<E4M3>()[32 + 15]) * scale == std::ldexp(kValues[code], 3 - distance);
        EXPECT_EQ(rows->rounded, !same);
        if (distance < 15 || distance > 20) {
          EXPECT_EQ(same, distance < 15) << distance;
        }
      }
    }
  }
}

TEST(Mxfp4, PairsAndRefuses) {
  TempFolder folder;
  const auto bytes = [](const char* name, std::vector<int64_t> shape, char fill = 100) {
    size_t count = 1;
    for (const int64_t d : shape) count *= static_cast<size_t>(d);
    return test::TestTensor{name, "U8", shape, std::string(count, fill)};
  };
  const auto write = [&](const std::vector<test::TestTensor>& tensors) {
    folder.write("model.safetensors", safetensors(tensors));
    return open(folder.path());
  };
  // Names alone make no pair: both must be there, of bytes.
  const auto plain = write({bytes("a_blocks", {2}), test::floats("b_blocks", {1}, {1}), bytes("b_scales", {1})});
  ASSERT_TRUE(plain.ok()) << plain.status().message();
  EXPECT_TRUE((*plain)->has("a_blocks") && (*plain)->has("b_scales") && !(*plain)->has("b"));

  const auto message = [&](const std::vector<test::TestTensor>& tensors) { return write(tensors).status().message(); };
  EXPECT_NE(message({bytes("a_blocks", {2, 1, 8}), bytes("a_scales", {2, 1})})
                .find("a_blocks: expected [.., rows, blocks, 16], found [2, 1, 8]"),
            std::string::npos);
  EXPECT_NE(message({bytes("a_blocks", {2, 1, 16}), bytes("a_scales", {2, 2})})
                .find("a_scales: expected [2, 1], found [2, 2]"),
            std::string::npos);
  EXPECT_NE(message({bytes("a_blocks", {2, 1, 16}), bytes("a_scales", {2, 1}), bytes("a", {1})})
                .find("a_blocks: expected once, found plain too"),
            std::string::npos);
  const auto huge = write({bytes("a_blocks", {2, 1, 16}), bytes("a_scales", {2, 1}, static_cast<char>(255))});
  ASSERT_TRUE(huge.ok());
  for (const Status& status : {(*huge)->read_scaled("a", {{0, 2}, {0, 32}}).status(), (*huge)->read("a").status()}) {
    EXPECT_NE(status.message().find("a_blocks: expected exponents below 253, found 255 in row 0"), std::string::npos);
  }
}

}  // namespace
}  // namespace hearth
