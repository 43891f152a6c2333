#include "cuda/limits.h"

#include <gtest/gtest.h>

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
  EXPECT_EQ(refusal([](auto& model, auto&) { model.experts = 384; }), "experts: the GPU takes at most 256, not 384");
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
  EXPECT_EQ(refusal([](auto& model, auto&) { model.sigmoid_router = true; }),
            "a router of sigmoids runs on the CPU only");
  EXPECT_EQ(refusal([](auto& model, auto&) { model.shared_expert = true; }), "a shared expert runs on the CPU only");
  EXPECT_EQ(refusal([](auto& model, auto&) { model.rotary = 64; }),
            "heads that are rotated in part run on the CPU only");
  EXPECT_EQ(refusal([](auto&, auto& step) { step.max_tokens = 4096, step.max_sequences = 4096; }),
            "attention on a GPU does not plan a step of 8192 tokens and 4096 sequences: lower --max-num-batched-tokens "
            "or --max-num-seqs");
  EXPECT_EQ(refusal([](auto&, auto& step) { step.max_tokens = 131072; }),
            "attention on a GPU does not plan a step of 131072 tokens and 1024 sequences: lower "
            "--max-num-batched-tokens or --max-num-seqs");
}

}  // namespace
}  // namespace hearth::cuda
