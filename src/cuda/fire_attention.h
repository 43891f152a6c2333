// FireAttention on the host side: the attention op of ops/kv_layout.h on a Hopper GPU. A step is planned once (its work
// list is built on the device), then every layer runs on that plan: one launch for generated tokens, one for prompt
// tokens, and with an e4m3 cache one before it that widens what prompts see; all with fixed grids, so that a captured
// graph serves every batch of its bucket.
#pragma once

#include <cuda_runtime_api.h>

#include "cuda/attention_plan.h"
#include "ops/ops.h"

namespace hearth::cuda {

struct FireAttentionShape {
  DType act = DType::kBF16;  // or f16
  DType kv = DType::kBF16;   // act or e4m3
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  int64_t window = 0;
  int64_t max_tokens = 0, max_sequences = 0;  // of a step
  // With e4m3: of a row of the block tables, and of AttentionArgs::wide_k (0: steps without prompt tokens only).
  int64_t max_blocks = 0, max_prompt_blocks = 0;
  bool widens() const { return kv == DType::kE4M3 && max_prompt_blocks > 0; }
};

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

  FireAttention(const FireAttentionShape& shape, void* workspace, int multiprocessors);

  void plan(const Batch& batch, cudaStream_t stream) const;
  // Where the plan lies, on the device.
  const AttentionPlan& built_plan() const { return plan_; }
  // args.out in the act type, or e4m3 without scales; every argument but the data follows the shape given before.
  // `planned_before`: other kernels ran between plan() and the kernel before this one, as in all layers but the first.
  Status run(const AttentionArgs& args, cudaStream_t stream, StepKinds kinds = {}, bool planned_before = false) const;

 private:
  void widen(const AttentionArgs& args, cudaStream_t stream, bool planned_before) const;

  FireAttentionShape shape_;
  AttentionPlan plan_;
  float* partials_;
  int32_t* arrivals_;
  int multiprocessors_;
};

}  // namespace hearth::cuda
