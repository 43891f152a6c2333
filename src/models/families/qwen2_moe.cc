// Qwen1.5-MoE and Qwen2-MoE: Qwen2's attention; experts, and a shared one whose weight is a sigmoid of its own. Source:
// Yang et al. 2024.
#include "models/family.h"

namespace hearth {
namespace {

Status read(const ConfigFields& fields, ModelConfig& config) {
  FeedForwardSpec experts;
  experts.shared_gate = true;
  HEARTH_ASSIGN(experts.experts, fields.integer("num_experts", 1, kMaxExperts, 60));
  HEARTH_ASSIGN(experts.experts_per_token, fields.integer("num_experts_per_tok", 1, kMaxExperts, 4));
  HEARTH_ASSIGN(experts.intermediate, fields.integer("moe_intermediate_size", 1, kMaxDim, 1408));
  HEARTH_ASSIGN(experts.shared_intermediate, fields.integer("shared_expert_intermediate_size", 1, kMaxDim, 5632));
  HEARTH_ASSIGN(experts.scoring.renormalize, fields.boolean("norm_topk_prob", false));
  HEARTH_ASSIGN(const auto sparse, read_sparse_layers(fields, std::ssize(config.layers)));
  HEARTH_ASSIGN(const bool bias, fields.boolean("qkv_bias", true));
  HEARTH_TRY(fields.refuse("use_sliding_window"));
  for (size_t i = 0; i < config.layers.size(); ++i) {
    config.layers[i].attention.qkv_bias = bias;
    if (sparse[i]) config.layers[i].feed_forward = experts;
  }
  return {};
}

Status read_gguf(const GgufFields& fields, ModelConfig& config) {
  FeedForwardSpec f = config.layers[0].feed_forward;
  f.shared_gate = true;
  HEARTH_ASSIGN(f.intermediate, fields.integer("expert_feed_forward_length", kMaxDim));
  HEARTH_ASSIGN(f.shared_intermediate, fields.integer("expert_shared_feed_forward_length", kMaxDim));
  HEARTH_ASSIGN(f.scoring.renormalize, fields.boolean("expert_weights_norm", false));
  for (LayerSpec& layer : config.layers) {
    layer.attention.qkv_bias = true;
    layer.feed_forward = f;
  }
  return {};
}

constexpr NameRule kNames[] = {
    {"model.layers.#.mlp.shared_expert.gate_proj", "layers.#.shared.gate"},
    {"model.layers.#.mlp.shared_expert.up_proj", "layers.#.shared.up"},
    {"model.layers.#.mlp.shared_expert.down_proj", "layers.#.shared.down"},
    {"model.layers.#.mlp.shared_expert_gate", "layers.#.shared_gate"},
};

}  // namespace

const Family kQwen2Moe{.name = "qwen2_moe", .gguf = "qwen2moe", .read = read, .read_gguf = read_gguf, .names = kNames};

}  // namespace hearth
