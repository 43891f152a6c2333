#include "cuda/limits.h"

#include <gtest/gtest.h>

#include "cpu/cpu_backend.h"
#include "engine/forwarding_backend.h"
#include "models/registry.h"
#include "weights/test_files.h"

namespace hearth::cuda {
namespace {

ModelShape mixtral() {
  return {.hidden = 4096,
          .intermediate = 14336,
          .vocab = 32000,
          .heads = 32,
          .kv_heads = 8,
          .head_dim = 128,
          .rotary = 128,
          .experts = 8,
          .experts_per_token = 2,
          .kv = DType::kE4M3};
}
constexpr StepLimits kStep{
    .max_tokens = 1024, .max_sequences = 256, .max_logits = 320, .max_logprobs = 20, .max_model_len = 32768};

TEST(Limits, TakesWhatServersRun) {
  EXPECT_TRUE(check_limits(DType::kBF16, mixtral(), kStep).ok());
  ModelShape qwen3{.hidden = 2048,
                   .intermediate = 768,
                   .vocab = 151936,
                   .heads = 32,
                   .kv_heads = 4,
                   .head_dim = 128,
                   .rotary = 128,
                   .experts = 128,
                   .experts_per_token = 8,
                   .kv = DType::kBF16};
  EXPECT_TRUE(check_limits(DType::kBF16, qwen3, kStep).ok());
  ModelShape glm_air{.hidden = 4096,
                     .intermediate = 1408,
                     .vocab = 151552,
                     .heads = 96,
                     .kv_heads = 8,
                     .head_dim = 128,
                     .rotary = 64,
                     .experts = 128,
                     .experts_per_token = 8,
                     .shared_intermediate = 1408,
                     .kv = DType::kE4M3};
  EXPECT_TRUE(check_limits(DType::kBF16, glm_air, kStep).ok());
  ModelShape wide{.hidden = 3072,
                  .intermediate = 1536,
                  .vocab = 200064,
                  .heads = 48,
                  .kv_heads = 8,
                  .head_dim = 128,
                  .rotary = 64,
                  .experts = 256,
                  .experts_per_token = 8,
                  .kv = DType::kE4M3};
  EXPECT_TRUE(check_limits(DType::kBF16, wide, kStep).ok());
  wide.vocab = 49155;  // Granite's; of no round number
  EXPECT_TRUE(check_limits(DType::kBF16, wide, kStep).ok());
}

// A GPU without memory: what gets as far as that has passed the check.
class FullGpu final : public ForwardingBackend {
 public:
  FullGpu() : ForwardingBackend(make_cpu_backend(DType::kBF16, 1)) {}
  Status check(const ModelShape& model, const StepLimits& step) const override {
    return check_limits(DType::kBF16, model, step);
  }
  int64_t free_bytes() const override { return 0; }
};
Status load_on_gpu(const char* config) {
  const test::TempFolder folder;
  folder.write("config.json", config);
  auto opened = open_model(folder.path().string(), LoadFormat::kDummy);
  if (!opened.ok()) return opened.status();
  FullGpu gpu;
  return load_model(std::move(opened).value(), gpu, {.max_tokens = 1024, .max_logits = 256, .max_model_len = 4096})
      .status();
}

// Published shapes, as their configs are read.
TEST(Limits, TakesPublishedModels) {
  struct Published {
    const char *name, *config;
  };
  for (const Published& model : std::vector<Published>{
           {"Mixtral 8x7B", R"({"model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336,
               "num_hidden_layers": 2, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000,
               "max_position_embeddings": 32768})"},
           {"Qwen2.5-7B", R"({"model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944,
               "num_hidden_layers": 2, "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064,
               "max_position_embeddings": 32768})"},
           {"Qwen3-30B-A3B", R"({"model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144,
               "num_hidden_layers": 2, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
               "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768, "vocab_size": 151936,
               "max_position_embeddings": 40960})"},
           {"gpt-oss-120b", R"({"model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880,
               "num_hidden_layers": 2, "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64,
               "num_local_experts": 128, "num_experts_per_tok": 4, "vocab_size": 201088,
               "max_position_embeddings": 131072})"},
           {"GLM-4.5-Air", R"({"model_type": "glm4_moe", "hidden_size": 4096, "intermediate_size": 10944,
               "num_hidden_layers": 2, "num_attention_heads": 96, "num_key_value_heads": 8, "head_dim": 128,
               "attention_bias": true, "n_routed_experts": 128, "num_experts_per_tok": 8,
               "moe_intermediate_size": 1408, "n_shared_experts": 1, "vocab_size": 151552,
               "max_position_embeddings": 131072, "partial_rotary_factor": 0.5})"},
           {"Qwen2-57B-A14B", R"({"model_type": "qwen2_moe", "hidden_size": 3584, "intermediate_size": 18944,
               "num_hidden_layers": 2, "num_attention_heads": 28, "num_key_value_heads": 4, "num_experts": 64,
               "num_experts_per_tok": 8, "moe_intermediate_size": 2560, "shared_expert_intermediate_size": 20480,
               "vocab_size": 151936, "max_position_embeddings": 32768})"},
           {"granite-3.1-3b-a800m", R"({"model_type": "granitemoe", "hidden_size": 1536, "intermediate_size": 512,
               "num_hidden_layers": 2, "num_attention_heads": 24, "num_key_value_heads": 8, "num_local_experts": 40,
               "num_experts_per_tok": 8, "vocab_size": 49155, "max_position_embeddings": 131072,
               "tie_word_embeddings": true})"},
       }) {
    const Status status = load_on_gpu(model.config);
    EXPECT_EQ(status.code(), Code::kResourceExhausted) << model.name << ": " << status.message();
  }
  const Status minimax = load_on_gpu(
      R"({"model_type": "minimax_m2", "hidden_size": 3072, "intermediate_size": 1536, "num_hidden_layers": 2,
          "num_attention_heads": 48, "num_key_value_heads": 8, "head_dim": 128, "rotary_dim": 64,
          "num_local_experts": 256, "num_experts_per_tok": 8, "vocab_size": 200064,
          "max_position_embeddings": 196608})");
  EXPECT_EQ(minimax.message(), "heads that are normed and rotated in part run on the CPU only");
}

// Each is inside the command line's own ranges, or a model that is published.
TEST(Limits, RefusesInOneLineWhatNoKernelTakes) {
  const auto refusal = [](auto change) {
    ModelShape model = mixtral();
    StepLimits step = kStep;
    change(model, step);
    const Status status = check_limits(DType::kBF16, model, step);
    EXPECT_EQ(status.code(), Code::kUnimplemented);
    EXPECT_EQ(status.message().find('\n'), std::string::npos);
    return status.message();
  };
  EXPECT_EQ(refusal([](auto&, auto& step) { step.max_logprobs = 200; }),
            "--max-logprobs: the GPU takes at most 128, not 200");
  EXPECT_EQ(refusal([](auto& model, auto&) { model.experts = 600; }), "experts: the GPU takes at most 512, not 600");
  EXPECT_EQ(refusal([](auto& model, auto&) { model.experts_per_token = 40; }),
            "experts per token: the GPU takes at most 32, not 40");
  EXPECT_EQ(refusal([](auto& model, auto&) { model.hidden = 20480; }),
            "hidden size: the GPU takes at most 16384, not 20480");
  EXPECT_EQ(refusal([](auto& model, auto&) { model.vocab = 1 << 20; }),
            "vocabulary: the GPU takes at most 409600, not 1048576");
  EXPECT_EQ(refusal([](auto& model, auto&) { model.head_dim = 96; }),
            "attention on a GPU takes head dimensions 64 and 128, not 96");
  EXPECT_EQ(refusal([](auto& model, auto&) { model.heads = 136; }),
            "attention on a GPU takes 1 to 16 query heads a KV head, not 136 over 8");
  EXPECT_EQ(refusal([](auto& model, auto&) { model.norms_all_heads = true, model.heads = model.kv_heads = 64; }),
            "channels of queries, keys and values whose norm is of all heads: the GPU takes at most 16384, not 24576");
  EXPECT_EQ(refusal([](auto& model, auto&) { model.rotary = 40; }),
            "rotary channels: the GPU takes a multiple of 16, not 40");
  EXPECT_EQ(refusal([](auto& model, auto&) { model.shared_intermediate = 100; }),
            "shared expert's intermediate size: the GPU takes a multiple of 64, not 100");
  EXPECT_EQ(refusal([](auto&, auto& step) { step.max_tokens = 4096, step.max_sequences = 4096; }),
            "attention on a GPU does not plan a step of 8192 tokens and 4096 sequences: lower --max-num-batched-tokens "
            "or --max-num-seqs");
  EXPECT_EQ(refusal([](auto&, auto& step) { step.max_tokens = 131072; }),
            "attention on a GPU does not plan a step of 131072 tokens and 1024 sequences: lower "
            "--max-num-batched-tokens or --max-num-seqs");
}

}  // namespace
}  // namespace hearth::cuda
