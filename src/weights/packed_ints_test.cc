// Packed integers against what the libraries that write them read (tools/make_model_goldens.py), to the bit.
#include "weights/packed_ints.h"

#include <gtest/gtest.h>

#include <functional>

#include "weights/safetensors.h"
#include "weights/test_files.h"

namespace hearth {
namespace {

using test::TempFolder;
using test::TestTensor;

struct Case {
  const char* folder;
  PackedInts how;
  const char* down;  // the first of them
};

TEST(PackedInts, EqualTheReferenceToTheBit) {
  using enum PackedLayout;
  const char *down = "model.layers.0.mlp.down_proj", *expert = "model.layers.0.mlp.experts.0.down_proj";
  for (const Case& c : std::vector<Case>{{"gptq_qwen2", {kGptq, 4, 32, true}, down},
                                         {"gptq_v2_8bit_llama", {kGptq, 8, 0}, down},
                                         {"awq_qwen3_moe", {kAwq, 4, 32}, expert},
                                         {"packed_llama", {kCompressedTensors, 4, 16, false, false}, down},
                                         {"packed_zeros_llama", {kCompressedTensors, 4, 16}, down}}) {
    const std::string folder = std::string("tests/golden/models/") + c.folder;
    // The folder has the expected values in a file of another name.
    auto file = open_safetensors_folder(folder);
    ASSERT_TRUE(file.ok()) << file.status().message();
    const auto unpacked = unpack_ints(*file, c.how);
    ASSERT_TRUE(unpacked.ok()) << unpacked.status().message();
    const auto golden = SafetensorsFile::open(folder + "/expected.safetensors");
    ASSERT_TRUE(golden.ok());
    for (const auto& [name, key] : {std::pair{"model.layers.0.self_attn.q_proj", "q_proj"}, {c.down, "down_proj"}}) {
      const Tensor& expected = golden->tensors().find(std::string_view(key))->second;
      const std::string weight = cat(name, ".weight");
      const int64_t rows = expected.dim(0), columns = expected.dim(1);
      ASSERT_TRUE((*unpacked)->expect(weight, {rows, columns}).ok()) << c.folder;
      // Whole, and in parts as ranks read it.
      for (const MatrixPart& part : {MatrixPart{{0, rows}, {0, columns}}, MatrixPart{{rows / 2, rows}, {0, columns}},
                                     MatrixPart{{1, rows - 1}, {columns / 2, columns - 3}}}) {
        const auto found = (*unpacked)->read_part(weight, part);
        ASSERT_TRUE(found.ok()) << found.status().message();
        ASSERT_EQ(found->view.shape, part.shape());
        for (int64_t r = 0; r < part.rows.size(); ++r) {
          for (int64_t k = 0; k < part.columns.size(); ++k) {
            const float want = expected.as<float>()[(part.rows.begin + r) * columns + part.columns.begin + k];
            ASSERT_EQ(to_float(found->view.as<F16>()[r * part.columns.size() + k]), want)
                << c.folder << ' ' << name << ' ' << r << ' ' << k;
          }
        }
      }
    }
    EXPECT_FALSE((*unpacked)->has("model.layers.0.self_attn.q_proj.qweight"));
    EXPECT_FALSE((*unpacked)->has("model.layers.0.self_attn.q_proj.weight_packed"));
  }
}

TestTensor ints(std::string name, std::vector<int64_t> shape, int32_t value) {
  int64_t count = 1;
  for (const int64_t dim : shape) count *= dim;
  std::string bytes;
  for (int64_t i = 0; i < count; ++i) bytes += test::raw(value);
  return {std::move(name), "I32", std::move(shape), bytes};
}

TEST(PackedInts, RefusesInOneLine) {
  const auto tensors = [] {
    return std::vector<TestTensor>{ints("w.qweight", {4, 16}, 5), ints("w.qzeros", {2, 2}, 7),
                                   test::floats("w.scales", {2, 16}, std::vector<float>(32, 0.5f)),
                                   ints("w.g_idx", {32}, 1)};
  };
  const auto open = [](const std::vector<TestTensor>& all) {
    const TempFolder folder;
    folder.write("model.safetensors", test::safetensors(all));
    return unpack_ints(*open_safetensors_folder(folder.path()), {PackedLayout::kGptq, 4, 16, true});
  };
  ASSERT_TRUE(open(tensors()).ok()) << open(tensors()).status().message();
  struct Bad {
    const char* message;
    std::function<void(std::vector<TestTensor>&)> change;
  };
  for (const Bad& bad : std::vector<Bad>{
           {"w.qzeros: expected [2, 2], found no such tensor", [](auto& t) { t.erase(t.begin() + 1); }},
           {"w.qzeros: expected [2, 2], found [2, 1]",
            [](auto& t) {
              t[1] = ints("w.qzeros", {2, 1}, 7);
            }},
           {"w.scales: expected [2, 16], found [1, 16]",
            [](auto& t) {
              t[2] = test::floats("w.scales", {1, 16}, std::vector<float>(16, 1));
            }},
           {"w.scales: expected finite scales, found another at 0",
            [](auto& t) {
              t[2] = test::floats("w.scales", {2, 16}, std::vector<float>(32, 1.0f / 0.0f));
            }},
           {"w.scales: expected float32, float16 or bfloat16, found int32",
            [](auto& t) {
              t[2] = ints("w.scales", {2, 16}, 1);
            }},
           {"w.g_idx: expected groups below 2, found 2 at 0", [](auto& t) { t[3] = ints("w.g_idx", {32}, 2); }},
           {"w.g_idx: expected [32], found [16]", [](auto& t) { t[3] = ints("w.g_idx", {16}, 0); }},
           {"w.qweight: expected rows in words of 8 and groups of 16 channels, found [16, 24]",
            [](auto& t) {
              t[0] = ints("w.qweight", {3, 16}, 0);
            }},
           {"w.qweight: expected a matrix of int32", [](auto& t) { t[0] = ints("w.qweight", {64}, 0); }},
           {"w.weight: expected once, found packed too",
            [](auto& t) { t.push_back(test::floats("w.weight", {1}, {1})); }},
       }) {
    std::vector<TestTensor> changed = tensors();
    bad.change(changed);
    const Status status = open(changed).status();
    EXPECT_FALSE(status.ok()) << bad.message;
    EXPECT_NE(status.message().find(bad.message), std::string::npos) << status.message();
    EXPECT_EQ(status.message().find('\n'), std::string::npos);
  }
}

}  // namespace
}  // namespace hearth
