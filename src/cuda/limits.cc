// Asked once, before anything is uploaded. The kernels' own checks behind it are for our bugs.
#include "cuda/limits.h"

#include <algorithm>
#include <bit>

namespace hearth::cuda {
namespace {

int64_t at_least(int64_t n, int64_t least) {
  return std::max(least, static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(n))));
}

Status at_most(std::string_view what, int64_t found, int64_t most) {
  if (found <= most) return {};
  return unimplemented(what, ": the GPU takes at most ", most, ", not ", found);
}

Status multiple_of(std::string_view what, int64_t found, int64_t unit) {
  if (found % unit == 0) return {};
  return unimplemented(what, ": the GPU takes a multiple of ", unit, ", not ", found);
}

}  // namespace

FireAttentionShape attention_shape(DType act, const AttentionShape& shape, const StepLimits& step) {
  const int64_t longest = ceil_div(step.max_model_len, kBlockSize);
  return {.act = act,
          .kv = shape.kv,
          .heads = shape.heads,
          .kv_heads = shape.kv_heads,
          .head_dim = shape.head_dim,
          .window = shape.window,
          .max_tokens = at_least(step.max_tokens, 8192),
          .max_sequences = at_least(step.max_sequences, 1024),
          .max_blocks = at_least(longest, 64),
          .max_prompt_blocks =
              shape.kv == DType::kE4M3 ? most_prompt_blocks(step.max_tokens, step.max_logits, longest) : 0};
}

Status check_limits(DType act, const ModelShape& model, const StepLimits& step) {
  const AttentionShape attention{model.heads, model.kv_heads, model.head_dim, model.window, model.kv};
  HEARTH_TRY(FireAttention::check(attention_shape(act, attention, step)));
  // The kernel has it, but has not passed its test on a GPU.
  if (model.norms_heads && model.rotary != model.head_dim) {
    return unimplemented("heads that are normed and rotated in part run on the CPU only");
  }
  HEARTH_TRY(multiple_of("rotary channels", model.rotary, 16));
  if (model.norms_all_heads) {
    HEARTH_TRY(at_most("channels of queries, keys and values whose norm is of all heads",
                       (model.heads + 2 * model.kv_heads) * model.head_dim, kMostNormedTogether));
  }
  HEARTH_TRY(multiple_of("hidden size", model.hidden, 64));
  HEARTH_TRY(at_most("hidden size", model.hidden, kMostHidden));
  HEARTH_TRY(multiple_of("intermediate size", model.intermediate, 64));
  HEARTH_TRY(at_most("intermediate size", model.intermediate, kMostQuantized));
  HEARTH_TRY(multiple_of("shared expert's intermediate size", model.shared_intermediate, 64));
  HEARTH_TRY(at_most("shared expert's intermediate size", model.shared_intermediate, kMostQuantized));
  HEARTH_TRY(at_most("channels of all query heads", model.heads * model.head_dim, kMostQuantized));
  HEARTH_TRY(at_most("vocabulary", model.vocab, kMostVocab));
  HEARTH_TRY(at_most("experts", model.experts, kMostExperts));
  HEARTH_TRY(at_most("experts per token", model.experts_per_token, kMostExpertsPerToken));
  HEARTH_TRY(at_most("--max-num-batched-tokens", step.max_tokens, kMostRows));
  HEARTH_TRY(at_most("--max-num-seqs", step.max_logits, kMostRows));
  return at_most("--max-logprobs", step.max_logprobs, kMostLogprobs);
}

}  // namespace hearth::cuda
