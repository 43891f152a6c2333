// Tiny checkpoints of every layout against transformers' logits: tools/make_model_goldens.py.
#include <gtest/gtest.h>

#include "cpu/cpu_backend.h"
#include "models/test_golden.h"

namespace hearth {
namespace {

Result<Golden> open_golden(const std::string& name, LinearFormat format, bool fp8_kv_cache = false) {
  return Golden::open(name, make_cpu_backend(DType::kF32, 2), format, fp8_kv_cache);
}

class ModelGolden : public testing::TestWithParam<std::string> {};

TEST_P(ModelGolden, LogitsMatchTransformers) {
  auto golden = open_golden(GetParam(), unquantized_activations(GetParam()));
  ASSERT_TRUE(golden.ok()) << golden.status().message();
  const double found = error(golden->run({kMaxTokens}), golden->logits);
  RecordProperty("relative_error", std::to_string(found));
  EXPECT_LT(found, 1e-5);
}

TEST_P(ModelGolden, ChunksAgreeToTheBit) {
  auto golden = open_golden(GetParam(), LinearFormat::kAsStored);
  ASSERT_TRUE(golden.ok()) << golden.status().message();
  const std::vector<float> whole = golden->run({kMaxTokens});
  EXPECT_EQ(golden->run({1}), whole);
  EXPECT_EQ(golden->run({3, 17, 1, 1, 5}), whole);
}

// Behind the last attention only the tokens whose logits are wanted go on: none of the first 13, some of the others.
TEST_P(ModelGolden, FewerLogitsAreTheSame) {
  auto golden = open_golden(GetParam(), LinearFormat::kAsStored);
  ASSERT_TRUE(golden.ok()) << golden.status().message();
  const std::vector<float> whole = golden->run({kMaxTokens});
  const auto vocab = static_cast<std::ptrdiff_t>(whole.size() / golden->tokens.size());
  for (const int64_t wanted : {1, 4}) {
    golden->sequence->clear();
    const std::span<const int32_t> tokens = golden->tokens;
    golden->sequence->append(tokens.first(13), true, 0);
    golden->sequence->append(tokens.subspan(13), true, wanted);
    EXPECT_EQ(golden->sequence->download_logits(), std::vector<float>(whole.end() - wanted * vocab, whole.end()));
  }
}

// Tokens after a prompt of 11, generated one a step or recomputed in one or two.
TEST_P(ModelGolden, GeneratedTokensInOneStepAgreeToTheBit) {
  auto golden = open_golden(GetParam(), LinearFormat::kAsStored);
  ASSERT_TRUE(golden.ok()) << golden.status().message();
  const std::vector<float> stepwise = golden->run({11, 1}, 11);
  EXPECT_EQ(golden->run({11, 29}, 11), stepwise);
  EXPECT_EQ(golden->run({5, 6, 13, 16}, 11), stepwise);
}

INSTANTIATE_TEST_SUITE_P(All, ModelGolden, testing::ValuesIn(kGoldens), [](const auto& info) { return info.param; });

class Fp8Golden : public testing::TestWithParam<std::string> {};

// Activations quantized on the way. An activation at the middle between two e4m3 values may round the other way here
// than in the reference, whose float32 sums are in another order. These goldens have one: channel 86 of what token 2
// brings to the experts of fp8_deepseek_block, 0.656246 in the reference where the middle is 0.65625. With that one
// turned over in the reference the logits agree to 5e-7, as the others do.
TEST_P(Fp8Golden, W8A8MatchesTheReference) {
  auto golden = open_golden(GetParam(), LinearFormat::kAsStored);
  ASSERT_TRUE(golden.ok()) << golden.status().message();
  const double found = error(golden->run({kMaxTokens}), golden->logits_w8a8);
  RecordProperty("relative_error", std::to_string(found));
  EXPECT_LT(found, GetParam() == "fp8_deepseek_block" ? 5e-5 : 2e-6);
  EXPECT_GT(error(golden->logits_w8a8, golden->logits), 1e-3) << "the reference quantizes nothing";
}

INSTANTIATE_TEST_SUITE_P(All, Fp8Golden,
                         testing::Values("fp8_autofp8", "fp8_compressed_channel", "fp8_compressed_tensor",
                                         "fp8_compressed_block", "fp8_modelopt", "fp8_deepseek_block",
                                         "fp8_fused_block", "fp8_fused_tensor", "fp8_qwen3_moe_block", "mxfp4_gpt_oss",
                                         "mxfp4_gpt_oss_wide", "fp8_minimax_m2_block", "fp8_glm4_moe_channel",
                                         "fp8_fbgemm"),
                         [](const auto& info) { return info.param; });

class Fp8KvGolden : public testing::TestWithParam<std::string> {};

// Keys and values quantized on the way, by a checkpoint's static scales (AutoFP8, compressed-tensors, ModelOpt) or one
// a token and head; prompt tokens and generated ones.
TEST_P(Fp8KvGolden, LogitsMatchTheReference) {
  auto golden = open_golden(GetParam(), unquantized_activations(GetParam()), /*fp8_kv_cache=*/true);
  ASSERT_TRUE(golden.ok()) << golden.status().message();
  EXPECT_LT(error(golden->run({kMaxTokens}), golden->logits_fp8_kv), 1e-5);
  EXPECT_LT(error(golden->run({11, 1}, 11), golden->logits_fp8_kv), 1e-5);
  EXPECT_GT(error(golden->logits_fp8_kv, golden->logits), 1e-3) << "the reference quantizes nothing";
}

INSTANTIATE_TEST_SUITE_P(All, Fp8KvGolden,
                         testing::Values("llama_float32", "fp8_autofp8", "fp8_compressed_tensor", "fp8_modelopt",
                                         "fp8_compressed_channel", "fp8_deepseek_block", "fp8_fused_block",
                                         "qwen3_dense", "fp8_qwen3_moe_block", "gpt_oss", "mxfp4_gpt_oss",
                                         "fp8_minimax_m2_block", "fp8_glm4_moe_channel", "fp8_fbgemm"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace hearth
