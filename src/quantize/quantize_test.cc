#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "cpu/cpu_backend.h"
#include "models/single_sequence.h"
#include "quantize/calibrate.h"
#include "quantize/quantize_model.h"
#include "weights/mapped_file.h"
#include "weights/test_files.h"

namespace hearth {
namespace {

namespace fs = std::filesystem;

const std::vector<int32_t> kTokens = {1, 7, 3, 60, 22, 5, 9, 31, 2, 44, 17, 50};

std::string folder_of(const std::string& name) { return "tests/golden/models/" + name; }

std::vector<float> logits(const fs::path& folder, LinearFormat format) {
  const auto backend = make_cpu_backend(DType::kF32, 2);
  auto loaded = load_model(folder.string(), *backend, {.format = format, .max_tokens = 16, .max_logits = 16});
  EXPECT_TRUE(loaded.ok()) << loaded.status().message();
  if (!loaded.ok()) return {};
  auto sequence = SingleSequence::create(*backend, *loaded->model, 64, 16, 16);
  EXPECT_TRUE(sequence.ok());
  sequence->append(kTokens, true, std::ssize(kTokens));
  return sequence->download_logits();
}

Result<QuantizeResult> quantize(const std::string& model, const fs::path& out, const QuantizeOptions& options = {},
                                const std::map<std::string, float>& inputs = {}) {
  HEARTH_ASSIGN(const OpenedModel opened, open_model(model));
  return quantize_model(opened, out, inputs, options);
}

std::string refusal(const std::string& model, const fs::path& out, const QuantizeOptions& options = {}) {
  const auto result = quantize(model, out, options);
  EXPECT_FALSE(result.ok());
  EXPECT_EQ(result.status().message().find('\n'), std::string::npos);
  return result.status().message();
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> out;
  for (const auto& file : fs::directory_iterator(folder)) out.push_back(file.path().filename().string());
  std::ranges::sort(out);
  return out;
}

class QuantizeFamily : public testing::TestWithParam<std::string> {};

TEST_P(QuantizeFamily, WhatIsWrittenIsWhatLoadingQuantizes) {
  const test::TempFolder folder;
  const auto result = quantize(folder_of(GetParam()), folder / "out");
  ASSERT_TRUE(result.ok()) << result.status().message();
  EXPECT_GE(result->matrices, 7);
  const std::vector<float> expected = logits(folder_of(GetParam()), LinearFormat::kQuantize);
  EXPECT_EQ(logits(folder / "out", LinearFormat::kAsStored), expected);
  EXPECT_NE(logits(folder_of(GetParam()), LinearFormat::kAsStored), expected);
}

TEST_P(QuantizeFamily, InFilesOfBoundedSize) {
  const test::TempFolder folder;
  const auto result = quantize(folder_of(GetParam()), folder / "out", {.shard_bytes = 9000});
  ASSERT_TRUE(result.ok()) << result.status().message();
  EXPECT_GT(result->files, 1);
  EXPECT_FALSE(fs::exists(folder / "out/model.safetensors"));
  EXPECT_EQ(logits(folder / "out", LinearFormat::kAsStored), logits(folder_of(GetParam()), LinearFormat::kQuantize));
}

INSTANTIATE_TEST_SUITE_P(All, QuantizeFamily,
                         testing::Values("llama_float32", "llama_float16_sharded", "llama_tied_bias", "mistral_window",
                                         "mixtral_fused", "mixtral_transformers4", "qwen2_tied", "qwen2_windows",
                                         "qwen3_tied_bias", "qwen3_moe", "qwen3_moe_fused", "olmoe", "glm4_moe",
                                         "glm4_moe_norms", "minimax_m2", "qwen2_moe", "granite", "granitemoe",
                                         "granitemoeshared"),
                         [](const auto& info) { return info.param; });

class Calibration : public testing::TestWithParam<std::string> {};

TEST_P(Calibration, FindsTheLargestInputsThatTransformersFinds) {
  const auto text = read_text_file("tests/golden/quantize/largest_inputs.json");
  ASSERT_TRUE(text.ok());
  const auto golden = parse_json(*text);
  ASSERT_TRUE(golden.ok());
  const Json& expected = golden->at(GetParam());
  const auto tokens = expected.at("tokens").get<std::vector<int32_t>>();
  const auto opened = open_model(folder_of(GetParam()));
  ASSERT_TRUE(opened.ok());
  const auto found = largest_inputs(*opened, tokens, {.threads = 2});
  ASSERT_TRUE(found.ok()) << found.status().message();
  EXPECT_EQ(found->size(), expected.at("largest").size());
  for (const auto& [name, largest] : expected.at("largest").items()) {
    if (largest.get<float>() == 0) continue;  // an expert that read nothing
    ASSERT_TRUE(found->contains(name)) << name;
    EXPECT_NEAR(found->at(name) / largest.get<float>(), 1, 1e-5) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(All, Calibration, testing::Values("llama_float32", "mixtral_transformers4"),
                         [](const auto& info) { return info.param; });

TEST(Calibration, WindowsAreTextsOfTheirOwn) {
  const auto opened = open_model(folder_of("llama_float32"));
  ASSERT_TRUE(opened.ok());
  const std::vector<int32_t> one = {1, 7, 3, 60}, other = {22, 5, 9, 31};
  std::vector<int32_t> both = one;
  both.insert(both.end(), other.begin(), other.end());
  const auto first = largest_inputs(*opened, one, {.threads = 1}),
             second = largest_inputs(*opened, other, {.threads = 1});
  const auto windows = largest_inputs(*opened, both, {.window = 4, .threads = 1});
  ASSERT_TRUE(first.ok() && second.ok() && windows.ok());
  for (const auto& [name, largest] : *windows) EXPECT_EQ(largest, std::max(first->at(name), second->at(name))) << name;
}

TEST(Calibration, AnExpertThatReadsNothingGetsTheOthersLargest) {
  const auto opened = open_model(folder_of("mixtral_transformers4"));
  ASSERT_TRUE(opened.ok());
  const auto found = largest_inputs(*opened, std::vector<int32_t>{5}, {.threads = 1});  // 2 of 4 experts
  ASSERT_TRUE(found.ok());
  for (const auto& [name, largest] : *found) EXPECT_GT(largest, 0) << name;
}

// Of logits, relative to their size.
double error(const std::vector<float>& found, const std::vector<float>& exact) {
  EXPECT_EQ(found.size(), exact.size());
  double difference = 0, size = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    difference += std::pow(double{found[i]} - exact[i], 2), size += std::pow(double{exact[i]}, 2);
  }
  return std::sqrt(difference / size);
}

// Random tiny models feel FP8 more than real ones: what scales by channel and token cost is the measure.
TEST(Quantize, StaticScalesAndBlocksCostWhatFp8Costs) {
  for (const std::string model : {"llama_float32", "mixtral_transformers4"}) {
    const test::TempFolder folder;
    const auto opened = open_model(folder_of(model));
    ASSERT_TRUE(opened.ok());
    const auto inputs = largest_inputs(*opened, kTokens, {.threads = 1});
    ASSERT_TRUE(inputs.ok());
    const std::vector<float> exact = logits(folder_of(model), LinearFormat::kAsStored);
    const double channel = error(logits(folder_of(model), LinearFormat::kQuantize), exact);
    for (const Fp8Scheme scheme : {Fp8Scheme::kStatic, Fp8Scheme::kBlock}) {
      const fs::path out = folder / (scheme == Fp8Scheme::kStatic ? "static" : "block");
      const auto result = quantize(folder_of(model), out, {.scheme = scheme}, *inputs);
      ASSERT_TRUE(result.ok()) << result.status().message();
      const auto written = open_model(out.string());
      ASSERT_TRUE(written.ok()) << written.status().message();
      EXPECT_EQ(written->config.quantization.static_activations, scheme == Fp8Scheme::kStatic);
      EXPECT_EQ(written->config.quantization.blocks, scheme == Fp8Scheme::kBlock);
      const double found = error(logits(out, LinearFormat::kAsStored), exact);
      RecordProperty(cat(model, scheme == Fp8Scheme::kStatic ? "_static" : "_block"), std::to_string(found / channel));
      EXPECT_LT(found, 2 * channel) << model;
      EXPECT_GT(found, channel / 2) << model;
    }
  }
}

TEST(Quantize, OtherFilesGoAlong) {
  const test::TempFolder folder;
  fs::copy(folder_of("llama_float32"), folder / "in");
  const std::string tokenizer = "{\"model\": {}}";
  folder.write("in/tokenizer.json", tokenizer);
  folder.write("in/LICENSE", "words");
  folder.write("in/pytorch_model.bin", "a pickle");
  folder.write("in/.gitattributes", "");
  ASSERT_TRUE(quantize((folder / "in").string(), (folder / "out").string() + "/").ok());
  const std::vector<std::string> expected = {
      "LICENSE",           "config.json",   "expected.safetensors", "generation_config.json",
      "model.safetensors", "tokenizer.json"};
  std::vector<std::string> found = names_in(folder / "out");
  found.push_back("expected.safetensors");  // is no part of a model, and ends like weights
  std::ranges::sort(found);
  EXPECT_EQ(found, expected);
  EXPECT_EQ(*read_text_file(folder / "out/tokenizer.json"), tokenizer);
}

TEST(Quantize, Refusals) {
  const test::TempFolder folder;
  EXPECT_EQ(refusal(folder_of("fp8_autofp8"), folder / "out"),
            folder_of("fp8_autofp8") + ": expected a 16-bit model, found one that is quantized");
  EXPECT_EQ(refusal(folder_of("gguf_llama") + "/model.gguf", folder / "out"),
            folder_of("gguf_llama") + "/model.gguf: expected a folder of safetensors, found a GGUF file");
  EXPECT_EQ(refusal(folder_of("llama_float32"), folder.path()), folder.path().string() + ": is there already");
  EXPECT_NE(refusal(folder_of("llama_float32"), folder / "no/out").find("no: "), std::string::npos);
  fs::create_symlink("nowhere", folder / "link");
  EXPECT_NE(refusal(folder_of("llama_float32"), folder / "link").find("is there already"), std::string::npos);
  EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"link"});
}

TEST(Quantize, WhatIsNotFiniteIsRefused) {
  const test::TempFolder folder;
  fs::copy(folder_of("llama_float32"), folder / "in");
  std::string bytes;
  {
    std::ifstream in(folder / "in/model.safetensors", std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(in), {});
  }
  uint64_t header;
  std::memcpy(&header, bytes.data(), 8);
  const auto directory = parse_json(std::string_view(bytes).substr(8, header));
  ASSERT_TRUE(directory.ok());
  const std::string name = "model.layers.1.mlp.down_proj.weight";
  const auto at = 8 + header + directory->at(name).at("data_offsets")[0].get<size_t>();
  for (const float wrong : {INFINITY, NAN}) {
    std::memcpy(bytes.data() + at, &wrong, sizeof wrong);
    folder.write("in/model.safetensors", bytes);
    EXPECT_EQ(refusal((folder / "in").string(), folder / "out"),
              cat((folder / "in/model.safetensors").string(), ": ", name, ": expected finite values, found others"));
    EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"in"});
  }
}

TEST(Quantize, ASignalLeavesNothing) {
  const test::TempFolder folder;
  std::atomic<bool> stop = false;
  int64_t steps = 0;
  const auto result = quantize(folder_of("llama_float32"), folder / "out",
                               {.stop = &stop, .progress = [&](int64_t, int64_t) { stop = ++steps == 3; }});
  EXPECT_EQ(result.status().code(), Code::kCancelled);
  EXPECT_EQ(steps, 3);
  EXPECT_TRUE(names_in(folder.path()).empty());
}

}  // namespace
}  // namespace hearth
