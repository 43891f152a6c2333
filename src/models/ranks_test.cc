// Models spread over ranks: as one rank has them to rounding, the same bits on every rank, in any chunks.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "cpu/cpu_backend.h"
#include "models/test_golden.h"
#include "weights/test_files.h"

namespace hearth {
namespace {

// The sizes of its steps, and how many tokens are the prompt's.
struct Pass {
  std::vector<size_t> chunks;
  size_t prompt = kMaxTokens;
};

// Logits of every pass, the same of all ranks.
Result<std::vector<std::vector<float>>> run_golden(const std::string& name, int size, LinearFormat format,
                                                   bool fp8_kv_cache, const std::vector<Pass>& passes,
                                                   bool expert_parallel = false) {
  const auto comm = make_host_communicators(size, std::chrono::seconds(120));
  std::vector<std::vector<std::vector<float>>> found(static_cast<size_t>(size));  // by rank and pass
  HEARTH_TRY(run_ranks(size, [&](int rank) -> Status {
    auto golden = Golden::open(name, make_cpu_backend(DType::kF32, 1, comm[static_cast<size_t>(rank)]), format,
                               fp8_kv_cache, expert_parallel);
    if (!golden.ok()) return golden.status();
    for (const Pass& pass : passes) found[static_cast<size_t>(rank)].push_back(golden->run(pass.chunks, pass.prompt));
    return comm[static_cast<size_t>(rank)]->status();
  }));
  for (const auto& rank : found) EXPECT_EQ(rank, found[0]) << "the ranks do not have the same bits";
  return found[0];
}

class RanksGolden : public testing::TestWithParam<std::string> {
 protected:
  // Numbers of ranks that can share the golden; the others are refused in a line that says why.
  std::vector<int> sizes() const {
    static const std::vector<std::string> none = {
        "fp8_compressed_block", "fp8_deepseek_block", "fp8_fused_block", "fp8_qwen3_moe_block", "olmoe",
        "gguf_olmoe",           "gguf_qwen2",         "mxfp4_gpt_oss",   "minimax_m2",          "fp8_minimax_m2_block",
        "gguf_minimax_m2"};
    std::vector<int> out;
    for (const int size : {2, 3, 4}) {
      const auto found = run_golden(GetParam(), size, LinearFormat::kAsStored, false, {});
      const std::string& why = found.status().message();
      if (found.ok()) {
        out.push_back(size);
      } else {
        EXPECT_TRUE(why.starts_with("tensor-parallel-size: expected ") || why.find("128x128 blocks") != why.npos)
            << why;
      }
    }
    EXPECT_EQ(out.empty(), std::ranges::count(none, GetParam()) == 1) << GetParam();
    return out;
  }
};

TEST_P(RanksGolden, LogitsAreThoseOfOneRankToRounding) {
  const LinearFormat format = unquantized_activations(GetParam());
  auto whole = Golden::open(GetParam(), make_cpu_backend(DType::kF32, 1), format);
  ASSERT_TRUE(whole.ok()) << whole.status().message();
  const std::vector<float> expected = whole->run({kMaxTokens});
  for (const int size : sizes()) {
    const auto found = run_golden(GetParam(), size, format, false, {{{kMaxTokens}}});
    ASSERT_TRUE(found.ok()) << found.status().message();
    const double difference = error((*found)[0], expected);
    RecordProperty("relative_error", std::to_string(difference));
    EXPECT_LT(difference, 3e-6);
    EXPECT_LT(error((*found)[0], whole->logits), 1e-5);
  }
}

// With the checkpoint's own products, FP8 ones too, and an FP8 cache.
TEST_P(RanksGolden, ChunksAgreeToTheBit) {
  for (const int size : sizes()) {
    for (const bool fp8_kv_cache : {false, true}) {
      const std::vector<Pass> passes = {{{kMaxTokens}}, {{1}}, {{3, 17, 1, 1, 5}}, {{11, 1}, 11}, {{5, 6, 13, 16}, 11}};
      const auto found = run_golden(GetParam(), size, LinearFormat::kAsStored, fp8_kv_cache, passes);
      ASSERT_TRUE(found.ok()) << found.status().message();
      EXPECT_EQ((*found)[1], (*found)[0]);
      EXPECT_EQ((*found)[2], (*found)[0]);
      EXPECT_EQ((*found)[4], (*found)[3]);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, RanksGolden, testing::ValuesIn(kGoldens), [](const auto& info) { return info.param; });

// Whole experts, dealt out as evenly as they go: five of gpt-oss to two ranks.
class ExpertParallel : public testing::TestWithParam<std::string> {};

TEST_P(ExpertParallel, LogitsAreThoseOfOneRankToRounding) {
  const LinearFormat format = unquantized_activations(GetParam());
  auto whole = Golden::open(GetParam(), make_cpu_backend(DType::kF32, 1), format);
  ASSERT_TRUE(whole.ok()) << whole.status().message();
  const std::vector<float> expected = whole->run({kMaxTokens});
  for (const int size : {2, 4}) {
    const auto found = run_golden(GetParam(), size, format, false, {{{kMaxTokens}}}, true);
    if (!found.ok() && size > 2) {
      EXPECT_TRUE(found.status().message().starts_with("tensor-parallel-size: expected a divisor of the model's "))
          << found.status().message();
      continue;
    }
    ASSERT_TRUE(found.ok()) << found.status().message();
    EXPECT_LT(error((*found)[0], expected), 3e-6);
    EXPECT_LT(error((*found)[0], whole->logits), 1e-5);
  }
}

TEST_P(ExpertParallel, ChunksAgreeToTheBit) {
  const std::vector<Pass> passes = {{{kMaxTokens}}, {{3, 17, 1, 1, 5}}, {{11, 1}, 11}, {{5, 6, 13, 16}, 11}};
  const auto found = run_golden(GetParam(), 2, LinearFormat::kAsStored, true, passes, true);
  ASSERT_TRUE(found.ok()) << found.status().message();
  EXPECT_EQ((*found)[1], (*found)[0]);
  EXPECT_EQ((*found)[3], (*found)[2]);
}

INSTANTIATE_TEST_SUITE_P(All, ExpertParallel,
                         testing::Values("mixtral_fused", "mixtral_transformers4", "gguf_mixtral",
                                         "gguf_mixtral_per_expert", "fp8_compressed_channel", "fp8_modelopt",
                                         "fp8_fused_tensor", "qwen3_moe", "qwen3_moe_fused", "gguf_qwen3_moe",
                                         "gpt_oss", "gguf_mxfp4_gpt_oss", "qwen2_moe", "glm4_moe"),
                         [](const auto& info) { return info.param; });

// A Mixtral of FP8 blocks that ranks can share: four heads of 128, two of keys and values, 512 intermediate columns.
class BlockModel {
 public:
  BlockModel() {
    matrix("self_attn.q_proj", 512, 256);
    matrix("self_attn.k_proj", 256, 256);
    matrix("self_attn.v_proj", 256, 256);
    matrix("self_attn.o_proj", 256, 512);
    for (const char* expert : {"0", "1"}) {
      const std::string name = cat("block_sparse_moe.experts.", expert);
      matrix(name + ".w1", 512, 256);
      matrix(name + ".w2", 256, 512);
      matrix(name + ".w3", 512, 256);
    }
    plain("model.layers.0.block_sparse_moe.gate.weight", {2, 256}, 0.1f);
    plain("model.embed_tokens.weight", {66, 256}, 1.0f);
    plain("lm_head.weight", {66, 256}, 0.1f);
    for (const char* norm :
         {"model.norm", "model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm"}) {
      tensors_.push_back(test::floats(cat(norm, ".weight"), {256}, std::vector<float>(256, 1.0f)));
    }
    folder_.write("model.safetensors", test::safetensors(tensors_));
    folder_.write("config.json", R"({"architectures": ["MixtralForCausalLM"], "model_type": "mixtral",
      "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 1, "num_attention_heads": 4,
      "num_key_value_heads": 2, "head_dim": 128, "num_local_experts": 2, "num_experts_per_tok": 2, "vocab_size": 66,
      "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
      "tie_word_embeddings": false, "torch_dtype": "float32", "eos_token_id": 0,
      "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}})");
  }

  // Logits of 20 tokens.
  Result<std::vector<float>> logits(LinearFormat format, std::shared_ptr<Communicator> comm,
                                    bool expert_parallel = false) const {
    const auto backend = make_cpu_backend(DType::kF32, 1, comm);
    const ModelOptions options{
        .format = format, .max_tokens = kMaxTokens, .max_logits = kMaxTokens, .expert_parallel = expert_parallel};
    HEARTH_ASSIGN(const LoadedModel loaded, load_model(folder_.path().string(), *backend, options));
    HEARTH_ASSIGN(SingleSequence sequence,
                  SingleSequence::create(*backend, *loaded.model, 128, kMaxTokens, kMaxTokens));
    std::vector<int32_t> tokens;
    for (int32_t i = 0; i < 20; ++i) tokens.push_back(i * 7 % 66);
    sequence.append(tokens, true, std::ssize(tokens));
    return sequence.download_logits();
  }

 private:
  void plain(const std::string& name, std::vector<int64_t> shape, float deviation) {
    std::normal_distribution<float> normal(0, deviation);
    std::vector<float> values(static_cast<size_t>(shape[0] * shape[1]));
    for (float& x : values) x = normal(random_);
    tensors_.push_back(test::floats(name, shape, values));
  }
  void matrix(const std::string& name, int64_t rows, int64_t columns) {
    std::string codes(static_cast<size_t>(rows * columns), '\0');
    for (char& code : codes) code = static_cast<char>((random_() % 0x70) | (random_() % 2 ? 0x80 : 0));
    tensors_.push_back({cat("model.layers.0.", name, ".weight"), "F8_E4M3", {rows, columns}, codes});
    std::vector<float> scales(static_cast<size_t>(rows / 128 * columns / 128));
    for (float& x : scales) x = 0.001f * (1.0f + static_cast<float>(random_() % 100) / 50);
    tensors_.push_back(
        test::floats(cat("model.layers.0.", name, ".weight_scale_inv"), {rows / 128, columns / 128}, scales));
  }

  std::mt19937 random_{11};
  std::vector<test::TestTensor> tensors_;
  test::TempFolder folder_;
};

// Blocks keep the scales, and activations the groups, that one rank has: FP8 products too agree to rounding.
TEST(Ranks, BlocksKeepTheirScales) {
  const BlockModel model;
  for (const LinearFormat format : {LinearFormat::kWeightOnly, LinearFormat::kAsStored}) {
    const auto expected = model.logits(format, nullptr);
    ASSERT_TRUE(expected.ok()) << expected.status().message();
    for (const auto& [size, expert_parallel] : {std::pair{2, false}, {4, false}, {2, true}}) {
      const auto comm = make_host_communicators(size, std::chrono::seconds(120));
      const Status status = run_ranks(size, [&](int rank) -> Status {
        auto found = model.logits(format, comm[static_cast<size_t>(rank)], expert_parallel);
        if (!found.ok()) return found.status();
        EXPECT_LT(error(*found, *expected), 1e-5);
        return comm[static_cast<size_t>(rank)]->status();
      });
      EXPECT_TRUE(status.ok()) << status.message();
    }
  }
}

TEST(Ranks, WhatDoesNotDivideIsRefused) {
  const auto refused = [](const std::string& name, int size) {
    return run_golden(name, size, LinearFormat::kAsStored, false, {}).status().message();
  };
  EXPECT_EQ(refused("llama_float32", 3),
            "tensor-parallel-size: expected a divisor of the model's 4 attention heads, found 3");
  EXPECT_EQ(refused("llama_tied_bias", 8),
            "tensor-parallel-size: expected a divisor of the model's 4 attention heads, found 8");
  const auto refused_experts = [](const std::string& name, int size) {
    return run_golden(name, size, LinearFormat::kAsStored, false, {}, true).status().message();
  };
  EXPECT_EQ(refused_experts("llama_float32", 2), "expert-parallel: expected a model with experts, found none");
  EXPECT_EQ(refused_experts("gpt_oss", 6),
            "tensor-parallel-size: expected at most the model's 5 experts with --expert-parallel, found 6");
  EXPECT_EQ(refused("olmoe", 2),
            "tensor-parallel-size: expected 1 for a model that normalizes all heads together, found 2");
}

}  // namespace
}  // namespace hearth
