#include "models/dummy_checkpoint.h"

#include <gtest/gtest.h>

#include <cmath>

#include "cpu/cpu_backend.h"
#include "models/registry.h"
#include "models/single_sequence.h"

namespace hearth {
namespace {

class DummyModels : public testing::TestWithParam<LinearFormat> {};

// Only config.json of the folder is read; every position gives other finite logits.
TEST_P(DummyModels, RunsWithRandomWeights) {
  for (const char* folder :
       {"tests/golden/models/mixtral_fused", "tests/golden/models/llama_float32", "tests/golden/models/fp8_autofp8",
        "tests/golden/models/fp8_compressed_channel", "tests/golden/models/fp8_deepseek_block",
        "tests/golden/models/llama_tied_bias", "tests/golden/models/qwen2_windows", "tests/golden/models/qwen3_moe",
        "tests/golden/models/olmoe", "tests/golden/models/fp8_qwen3_moe_block", "tests/golden/models/gpt_oss",
        "tests/golden/models/mxfp4_gpt_oss"}) {
    auto opened = open_model(folder, LoadFormat::kDummy);
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    const auto backend = make_cpu_backend(DType::kF32, 1);
    const ModelOptions options{.format = GetParam(), .max_tokens = 8, .max_logits = 8};
    auto loaded = load_model(std::move(*opened), *backend, options);
    ASSERT_TRUE(loaded.ok()) << loaded.status().message();
    auto sequence = SingleSequence::create(*backend, *loaded->model, 64, 8, 8);
    ASSERT_TRUE(sequence.ok());
    const int32_t tokens[] = {3, 9, 4, 1, 5};
    sequence->append(tokens, true, 5);
    const std::vector<float> logits = sequence->download_logits();
    const auto vocab = static_cast<size_t>(loaded->model->vocab_size());
    ASSERT_EQ(logits.size(), 5 * vocab);
    for (const float l : logits) ASSERT_TRUE(std::isfinite(l));
    for (size_t row = 1; row < 5; ++row) EXPECT_NE(logits[row * vocab], logits[0]);
  }
}
INSTANTIATE_TEST_SUITE_P(Formats, DummyModels, testing::Values(LinearFormat::kAsStored, LinearFormat::kQuantize));

// As the config states them, so that what is measured is what such a checkpoint costs.
TEST(DummyCheckpoint, KeepsTheFormOfScales) {
  const auto scale_of = [](const char* folder) {
    const auto opened = open_model(folder, LoadFormat::kDummy);
    EXPECT_TRUE(opened.ok()) << opened.status().message();
    WeightReader reader(*opened->checkpoint, /*check_only=*/false);
    return reader.matrix("layers.0.o", 200, 300)->matrix.kind;
  };
  const auto mxfp4 = open_model("tests/golden/models/mxfp4_gpt_oss", LoadFormat::kDummy);
  ASSERT_TRUE(mxfp4.ok());
  WeightReader reader(*mxfp4->checkpoint, /*check_only=*/false);
  EXPECT_EQ(reader.matrix("layers.0.o", 200, 300)->matrix.kind, WeightScales::kNone);
  EXPECT_EQ(reader.matrix("layers.0.experts.1.up", 200, 300)->matrix.kind, WeightScales::kChannel);
  EXPECT_EQ(scale_of("tests/golden/models/llama_float32"), WeightScales::kNone);
  EXPECT_EQ(scale_of("tests/golden/models/fp8_autofp8"), WeightScales::kChannel);
  EXPECT_EQ(scale_of("tests/golden/models/fp8_deepseek_block"), WeightScales::kBlock);
}

TEST(OpenModel, DummyNeedsAFolderWithAConfig) {
  EXPECT_FALSE(open_model("tests/golden/models/gguf_llama/model.gguf", LoadFormat::kDummy).ok());
  EXPECT_FALSE(open_model("tests/golden/cpu", LoadFormat::kDummy).ok());
}

}  // namespace
}  // namespace hearth
