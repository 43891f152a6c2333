// Qwen3-MoE (30B-A3B, 235B-A22B, Coder): Qwen3's attention and experts, or a dense layer here and there. Source: Yang
// et al. 2025.
#include "models/family.h"

namespace hearth {
namespace {

Status read(const ConfigFields& fields, ModelConfig& config) {
  HEARTH_ASSIGN(const bool bias, fields.boolean("attention_bias", false));
  HEARTH_ASSIGN(const int64_t old_name, fields.integer("num_local_experts", 1, kMaxExperts, 128));
  FeedForwardSpec experts;
  HEARTH_ASSIGN(experts.experts, fields.integer("num_experts", 1, kMaxExperts, old_name));
  HEARTH_ASSIGN(experts.experts_per_token, fields.integer("num_experts_per_tok", 1, kMaxExperts, 8));
  HEARTH_ASSIGN(experts.intermediate, fields.integer("moe_intermediate_size", 1, kMaxDim, 768));
  HEARTH_ASSIGN(experts.scoring.renormalize, fields.boolean("norm_topk_prob", false));
  HEARTH_ASSIGN(const auto sparse, read_sparse_layers(fields, std::ssize(config.layers)));
  HEARTH_ASSIGN(const bool windows, fields.boolean("use_sliding_window", false));
  int64_t window = 0;
  if (windows) {
    HEARTH_ASSIGN(window,
                  fields.integer("sliding_window", 1, kMaxPositions, fields.mentions("sliding_window") ? 0 : 4096));
  }
  for (size_t i = 0; i < config.layers.size(); ++i) {
    AttentionSpec& attention = config.layers[i].attention;
    attention.qk_norm = QkNorm::kEachHead;
    attention.qkv_bias = attention.out_bias = bias;
    attention.window = window;
    if (sparse[i]) config.layers[i].feed_forward = experts;
  }
  return {};
}

Status read_gguf(const GgufFields& fields, ModelConfig& config) {
  HEARTH_ASSIGN(const int64_t width, fields.integer("expert_feed_forward_length", kMaxDim));
  HEARTH_ASSIGN(const bool renormalize, fields.boolean("expert_weights_norm", true));  // as llama.cpp runs it
  for (LayerSpec& layer : config.layers) {
    layer.attention.qk_norm = QkNorm::kEachHead;
    layer.feed_forward.intermediate = width;
    layer.feed_forward.scoring.renormalize = renormalize;
  }
  return {};
}

}  // namespace

const Family kQwen3Moe{.name = "qwen3_moe", .gguf = "qwen3moe", .read = read, .read_gguf = read_gguf};

}  // namespace hearth
