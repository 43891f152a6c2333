// FireAttention on the host side: the attention op of ops/kv_layout.h on a Hopper GPU. A step is planned once (its work
// list is built on the device), then every layer runs on that plan: one launch for generated tokens, one for prompt
// tokens, and with an e4m3 cache one before it that widens what prompts see; all with fixed grids, so that a captured
// graph serves every batch of its bucket.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <span>

#include "cuda/attention_plan.h"
#include "ops/ops.h"

namespace hearth::cuda {

struct PlanParams;  // kernels/attention_plan.cuh

struct FireAttentionShape {
  DType act = DType::kBF16;  // or f16
  DType kv = DType::kBF16;   // act or e4m3
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  int64_t window = 0;
  int64_t max_tokens = 0, max_sequences = 0;  // of a step
  // With e4m3: of a row of the block tables, and what may be widened of a step (0: steps without prompt tokens only).
  int64_t max_blocks = 0, max_prompt_blocks = 0;
  bool widens() const { return kv == DType::kE4M3 && max_prompt_blocks > 0; }
  // Whether steps of `other`, of the same heads, types and window, fit.
  bool holds(const FireAttentionShape& other) const {
    return act == other.act && max_tokens >= other.max_tokens && max_sequences >= other.max_sequences &&
           max_blocks >= other.max_blocks && max_prompt_blocks >= other.max_prompt_blocks;
  }
};

// How many blocks the prompts of a step may have in all: 64K tokens of prompts and what they follow, or one prompt as
// long as may be; less where no step can have so much, each of its sequences having a token and a row of logits.
constexpr int64_t most_prompt_blocks(int64_t max_tokens, int64_t max_logits, int64_t longest) {
  constexpr int64_t kBlocks = (64 << 10) / kBlockSize;
  return std::min(std::max(longest, kBlocks), longest * std::min(max_tokens, max_logits));
}

// What a step may hold; a captured graph leaves out a launch that has nothing to do.
struct StepKinds {
  bool prompt = true, generated = true;
};

class FireAttention {
 public:
  // kUnimplemented: heads, head_dim or types that no kernel takes.
  static Status check(const FireAttentionShape& shape);
  // Device memory for plan and partial results, zeroed once by the caller.
  static int64_t workspace_bytes(const FireAttentionShape& shape);

  struct Memory {
    void* workspace = nullptr;
    // Where the shape widens: act [max_prompt_blocks, kv_heads, 64, head_dim], for no longer than a layer.
    void *wide_k = nullptr, *wide_v = nullptr;
  };
  FireAttention(const FireAttentionShape& shape, const Memory& memory, int multiprocessors);

  // Of all in one launch.
  static void plan(std::span<const FireAttention* const> all, const Batch& batch, cudaStream_t stream);
  // Where the plan lies, on the device.
  const AttentionPlan& built_plan() const { return plan_; }
  // args.out in the act type, or e4m3 without scales; every argument but the data follows the shape given before.
  // `planned_before`: this ran on the same plan already, as in all of a window's layers but the first.
  Status run(const AttentionArgs& args, cudaStream_t stream, StepKinds kinds = {}, bool planned_before = false) const;

 private:
  PlanParams plan_params(const Batch& batch) const;
  void widen(const AttentionArgs& args, cudaStream_t stream, bool planned_before) const;

  FireAttentionShape shape_;
  Memory memory_;
  AttentionPlan plan_;
  float* partials_;
  int32_t* arrivals_;
  int multiprocessors_;
};

}  // namespace hearth::cuda
