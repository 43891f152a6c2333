// Tiny checkpoints of every layout against transformers' logits: tools/make_model_goldens.py.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu/cpu_backend.h"
#include "models/registry.h"
#include "models/single_sequence.h"
#include "weights/safetensors.h"

namespace hearth {
namespace {

constexpr int64_t kMaxTokens = 64;

std::string folder_of(const std::string& name) { return "tests/golden/models/" + name; }
std::string model_of(const std::string& name) {
  return name.starts_with("gguf_") ? folder_of(name) + "/model.gguf" : folder_of(name);
}

LinearFormat unquantized_activations(const std::string& name) {
  return name.starts_with("fp8_") ? LinearFormat::kWeightOnly : LinearFormat::kAsStored;
}

// A golden's model on the CPU backend, one sequence of it, and what is expected.
struct Golden {
  std::unique_ptr<Backend> backend;
  LoadedModel loaded;
  std::unique_ptr<SingleSequence> sequence;
  std::vector<int32_t> tokens;
  std::vector<float> logits, logits_w8a8, logits_fp8_kv;  // [tokens, vocab]

  static Result<Golden> open(const std::string& name, LinearFormat format, bool fp8_kv_cache = false) {
    Golden out;
    HEARTH_ASSIGN(const SafetensorsFile expected, SafetensorsFile::open(folder_of(name) + "/expected.safetensors"));
    const auto read = [&]<typename T>(const char* key, std::vector<T>& values) {
      const auto at = expected.tensors().find(std::string_view(key));
      if (at == expected.tensors().end()) return;
      values.resize(static_cast<size_t>(at->second.shape.elements()));
      std::memcpy(values.data(), at->second.data, values.size() * sizeof(T));
    };
    read("tokens", out.tokens);
    read("logits", out.logits);
    read("logits_w8a8", out.logits_w8a8);
    read("logits_fp8_kv", out.logits_fp8_kv);
    out.backend = make_cpu_backend(DType::kF32, 2);
    const ModelOptions options{
        .format = format, .fp8_kv_cache = fp8_kv_cache, .max_tokens = kMaxTokens, .max_logits = kMaxTokens};
    HEARTH_ASSIGN(out.loaded, load_model(model_of(name), *out.backend, options));
    HEARTH_ASSIGN(SingleSequence sequence,
                  SingleSequence::create(*out.backend, *out.loaded.model, 128, kMaxTokens, kMaxTokens));
    out.sequence = std::make_unique<SingleSequence>(std::move(sequence));
    return out;
  }

  // Logits of every token, run in chunks of these sizes (the last repeats); tokens from `prompt` on are generated ones.
  std::vector<float> run(std::vector<size_t> chunks, size_t prompt = kMaxTokens) {
    sequence->clear();
    std::vector<float> out;
    size_t i = 0;
    for (size_t begin = 0; begin < tokens.size(); i = std::min(i + 1, chunks.size() - 1)) {
      const size_t n = std::min(chunks[i], tokens.size() - begin);
      sequence->append({tokens.data() + begin, n}, begin < prompt, static_cast<int64_t>(n));
      const auto part = sequence->download_logits();
      out.insert(out.end(), part.begin(), part.end());
      begin += n;
    }
    return out;
  }
};

// The largest difference relative to the largest logit.
double error(const std::vector<float>& found, const std::vector<float>& expected) {
  EXPECT_EQ(found.size(), expected.size());
  EXPECT_FALSE(expected.empty());
  double most = 0, difference = 0;
  for (size_t i = 0; i < std::min(found.size(), expected.size()); ++i) {
    most = std::max(most, std::fabs(double{expected[i]}));
    difference = std::max(difference, std::fabs(double{found[i]} - double{expected[i]}));
    if (std::isnan(found[i])) return INFINITY;
  }
  return difference / most;
}

class ModelGolden : public testing::TestWithParam<std::string> {};

TEST_P(ModelGolden, LogitsMatchTransformers) {
  auto golden = Golden::open(GetParam(), unquantized_activations(GetParam()));
  ASSERT_TRUE(golden.ok()) << golden.status().message();
  const double found = error(golden->run({kMaxTokens}), golden->logits);
  RecordProperty("relative_error", std::to_string(found));
  EXPECT_LT(found, 1e-5);
}

TEST_P(ModelGolden, ChunksAgreeToTheBit) {
  auto golden = Golden::open(GetParam(), LinearFormat::kAsStored);
  ASSERT_TRUE(golden.ok()) << golden.status().message();
  const std::vector<float> whole = golden->run({kMaxTokens});
  EXPECT_EQ(golden->run({1}), whole);
  EXPECT_EQ(golden->run({3, 17, 1, 1, 5}), whole);
}

// Behind the last attention only the tokens whose logits are wanted go on: none of the first 13, some of the others.
TEST_P(ModelGolden, FewerLogitsAreTheSame) {
  auto golden = Golden::open(GetParam(), LinearFormat::kAsStored);
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
  auto golden = Golden::open(GetParam(), LinearFormat::kAsStored);
  ASSERT_TRUE(golden.ok()) << golden.status().message();
  const std::vector<float> stepwise = golden->run({11, 1}, 11);
  EXPECT_EQ(golden->run({11, 29}, 11), stepwise);
  EXPECT_EQ(golden->run({5, 6, 13, 16}, 11), stepwise);
}

INSTANTIATE_TEST_SUITE_P(
    All, ModelGolden,
    testing::Values("llama_float32", "llama_tied_bias", "llama_float16_sharded", "llama_rope_linear",
                    "llama_rope_dynamic", "llama_rope_llama3", "llama_rope_yarn", "mistral_window", "mixtral_fused",
                    "mixtral_transformers4", "fp8_autofp8", "fp8_compressed_channel", "fp8_compressed_tensor",
                    "fp8_compressed_block", "fp8_modelopt", "fp8_deepseek_block", "fp8_fused_block", "fp8_fused_tensor",
                    "gguf_llama", "gguf_k_quants", "gguf_mixtral", "gguf_mixtral_per_expert", "qwen2_tied",
                    "qwen2_windows", "qwen3_dense", "qwen3_tied_bias", "qwen3_moe", "qwen3_moe_fused", "olmoe",
                    "fp8_qwen3_moe_block", "gguf_qwen2", "gguf_qwen3", "gguf_qwen3_moe", "gguf_olmoe"),
    [](const auto& info) { return info.param; });

class Fp8Golden : public testing::TestWithParam<std::string> {};

// Activations quantized on the way. An activation at the middle between two e4m3 values may round the other way here
// than in the reference, whose float32 sums are in another order. These goldens have one: channel 86 of what token 2
// brings to the experts of fp8_deepseek_block, 0.656246 in the reference where the middle is 0.65625. With that one
// turned over in the reference the logits agree to 5e-7, as the others do.
TEST_P(Fp8Golden, W8A8MatchesTheReference) {
  auto golden = Golden::open(GetParam(), LinearFormat::kAsStored);
  ASSERT_TRUE(golden.ok()) << golden.status().message();
  const double found = error(golden->run({kMaxTokens}), golden->logits_w8a8);
  RecordProperty("relative_error", std::to_string(found));
  EXPECT_LT(found, GetParam() == "fp8_deepseek_block" ? 5e-5 : 2e-6);
  EXPECT_GT(error(golden->logits_w8a8, golden->logits), 1e-3) << "the reference quantizes nothing";
}

INSTANTIATE_TEST_SUITE_P(All, Fp8Golden,
                         testing::Values("fp8_autofp8", "fp8_compressed_channel", "fp8_compressed_tensor",
                                         "fp8_compressed_block", "fp8_modelopt", "fp8_deepseek_block",
                                         "fp8_fused_block", "fp8_fused_tensor", "fp8_qwen3_moe_block"),
                         [](const auto& info) { return info.param; });

class Fp8KvGolden : public testing::TestWithParam<std::string> {};

// Keys and values quantized on the way, by a checkpoint's static scales (AutoFP8, compressed-tensors, ModelOpt) or one
// a token and head; prompt tokens and generated ones.
TEST_P(Fp8KvGolden, LogitsMatchTheReference) {
  auto golden = Golden::open(GetParam(), unquantized_activations(GetParam()), /*fp8_kv_cache=*/true);
  ASSERT_TRUE(golden.ok()) << golden.status().message();
  EXPECT_LT(error(golden->run({kMaxTokens}), golden->logits_fp8_kv), 1e-5);
  EXPECT_LT(error(golden->run({11, 1}, 11), golden->logits_fp8_kv), 1e-5);
  EXPECT_GT(error(golden->logits_fp8_kv, golden->logits), 1e-3) << "the reference quantizes nothing";
}

INSTANTIATE_TEST_SUITE_P(All, Fp8KvGolden,
                         testing::Values("llama_float32", "fp8_autofp8", "fp8_compressed_tensor", "fp8_modelopt",
                                         "fp8_compressed_channel", "fp8_deepseek_block", "fp8_fused_block",
                                         "qwen3_dense", "fp8_qwen3_moe_block"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace hearth
