// OLMoE: experts whose weights are not renormalised, and RMS norms of all query and of all key heads together. Source:
// Muennighoff et al. 2024.
#include "models/family.h"

namespace hearth {
namespace {

void set(ModelConfig& config, bool bias, bool renormalize) {
  for (LayerSpec& layer : config.layers) {
    layer.attention.qk_norm = QkNorm::kAllHeads;
    layer.attention.qkv_bias = layer.attention.out_bias = bias;
    layer.feed_forward.scoring.renormalize = renormalize;
  }
}

Status read(const ConfigFields& fields, ModelConfig& config) {
  if (fields.find("clip_qkv") != nullptr) return fields.wrong("clip_qkv", "null");
  HEARTH_ASSIGN(const bool bias, fields.boolean("attention_bias", false));
  HEARTH_ASSIGN(const bool renormalize, fields.boolean("norm_topk_prob", false));
  HEARTH_ASSIGN(const int64_t experts, fields.integer("num_experts", 1, kMaxExperts, 64));
  HEARTH_ASSIGN(const int64_t chosen, fields.integer("num_experts_per_tok", 1, kMaxExperts, 8));
  set(config, bias, renormalize);
  for (LayerSpec& layer : config.layers) {
    layer.feed_forward.experts = experts, layer.feed_forward.experts_per_token = chosen;
  }
  return {};
}

Status read_gguf(const GgufFields& fields, ModelConfig& config) {
  HEARTH_ASSIGN(const bool renormalize, fields.boolean("expert_weights_norm", false));
  set(config, false, renormalize);
  return {};
}

}  // namespace

const Family kOlmoe{.name = "olmoe", .gguf = "olmoe", .read = read, .read_gguf = read_gguf};

}  // namespace hearth
