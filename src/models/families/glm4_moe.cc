// GLM-4.5 and 4.6 (Air too): a router of sigmoids with a correction, a shared expert beside the chosen ones, dense
// first layers, heads rotated by half. Source: GLM team 2025.
#include <algorithm>

#include "models/family.h"

namespace hearth {
namespace {

void set_experts(ModelConfig& config, int64_t first, const FeedForwardSpec& experts) {
  for (auto i = static_cast<size_t>(first); i < config.layers.size(); ++i) config.layers[i].feed_forward = experts;
}

Status read(const ConfigFields& fields, ModelConfig& config) {
  FeedForwardSpec f;
  f.router_correction = f.scoring.sigmoid = true;
  HEARTH_ASSIGN(f.experts, fields.integer("n_routed_experts", 1, kMaxExperts, 128));
  HEARTH_ASSIGN(f.experts_per_token, fields.integer("num_experts_per_tok", 1, kMaxExperts, 8));
  HEARTH_ASSIGN(f.intermediate, fields.integer("moe_intermediate_size", 1, kMaxDim, 1408));
  HEARTH_ASSIGN(const int64_t shared, fields.integer("n_shared_experts", 0, 64, 1));
  f.shared_intermediate = shared * f.intermediate;
  HEARTH_ASSIGN(f.scoring.renormalize, fields.boolean("norm_topk_prob", true));
  HEARTH_ASSIGN(const double scale, fields.positive("routed_scaling_factor", 1.0));
  f.scoring.scale = static_cast<float>(scale);
  HEARTH_ASSIGN(const int64_t groups, fields.integer("n_group", 1, kMaxExperts, 1));
  HEARTH_ASSIGN(const int64_t chosen_groups, fields.integer("topk_group", 1, kMaxExperts, 1));
  if (groups != chosen_groups) {
    return unimplemented(fields.where(), ": topk_group: expected as many as n_group ", groups, ", found ",
                         chosen_groups);
  }
  HEARTH_ASSIGN(const int64_t dense, fields.integer("first_k_dense_replace", 0, kMaxLayers, 1));
  set_experts(config, dense, f);
  HEARTH_ASSIGN(config.draft_layers, fields.integer("num_nextn_predict_layers", 0, 16, 1));
  HEARTH_ASSIGN(const bool bias, fields.boolean("attention_bias", false));
  HEARTH_ASSIGN(const bool norm, fields.boolean("use_qk_norm", false));
  for (LayerSpec& layer : config.layers) {
    layer.attention.qkv_bias = bias;
    if (norm) layer.attention.qk_norm = QkNorm::kEachHead;
  }
  return {};
}

Status read_gguf(const GgufFields& fields, ModelConfig& config) {
  // Their count includes the layers that guess further tokens.
  const int64_t layers = std::ssize(config.layers);
  HEARTH_ASSIGN(config.draft_layers, fields.integer("nextn_predict_layers", layers - 1, 0));
  config.layers.resize(static_cast<size_t>(layers - config.draft_layers));
  FeedForwardSpec f = config.layers[0].feed_forward;
  if (f.experts == 0) return invalid(fields.file().path(), ": ", fields.name("expert_count"), ": expected experts");
  f.router_correction = true;
  HEARTH_TRY(read_gguf_sigmoids(fields, f.scoring));
  HEARTH_ASSIGN(f.scoring.renormalize, fields.boolean("expert_weights_norm", false));
  HEARTH_ASSIGN(f.intermediate, fields.integer("expert_feed_forward_length", kMaxDim));
  HEARTH_ASSIGN(const int64_t shared, fields.integer("expert_shared_count", 64, 0));
  f.shared_intermediate = shared * f.intermediate;
  for (LayerSpec& layer : config.layers) {
    layer.feed_forward.experts = layer.feed_forward.experts_per_token = 0;
    layer.attention.qkv_bias = fields.checkpoint().has("blk.0.attn_q.bias");
    if (fields.checkpoint().has("blk.0.attn_q_norm.weight")) layer.attention.qk_norm = QkNorm::kEachHead;
  }
  HEARTH_ASSIGN(const int64_t dense, fields.integer("leading_dense_block_count", kMaxLayers, 0));
  set_experts(config, dense, f);
  return {};
}

constexpr NameRule kNames[] = {
    {"model.layers.#.mlp.gate.e_score_correction_bias", "layers.#.router.correction.bias"},
    {"model.layers.#.mlp.shared_experts.gate_proj", "layers.#.shared.gate"},
    {"model.layers.#.mlp.shared_experts.up_proj", "layers.#.shared.up"},
    {"model.layers.#.mlp.shared_experts.down_proj", "layers.#.shared.down"},
};

constexpr NameRule kGgufNames[] = {{"blk.#.post_attention_norm", "layers.#.feed_forward_norm"}};

}  // namespace

const Family kGlm4Moe{.name = "glm4_moe",
                      .gguf = "glm4moe",
                      .rotary_share = 0.5,
                      .read = read,
                      .read_gguf = read_gguf,
                      .names = kNames,
                      .gguf_names = kGgufNames};

}  // namespace hearth
