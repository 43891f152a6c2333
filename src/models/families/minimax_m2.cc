// MiniMax-M2: a router of sigmoids with a correction, RMS norms of all query and of all key heads together, heads
// rotated in part. Source: MiniMax 2025.
#include "models/family.h"

namespace hearth {
namespace {

// What its config may say and other values of which mean another model.
Status check_variant(const ConfigFields& fields) {
  for (const char* field : {"use_qk_norm", "use_routing_bias"}) {
    HEARTH_ASSIGN(const bool used, fields.boolean(field, true));
    if (!used) return unimplemented(fields.where(), ": ", field, ": expected true, found false");
  }
  const auto expect = [&](const char* field, std::string_view only) -> Status {
    HEARTH_ASSIGN(const std::string found, fields.string(field, std::string(only)));
    if (found == only) return {};
    return unimplemented(fields.where(), ": ", field, ": expected ", only, ", found ", printable(found));
  };
  HEARTH_TRY(expect("qk_norm_type", "per_layer"));
  HEARTH_TRY(expect("scoring_func", "sigmoid"));
  HEARTH_ASSIGN(const int64_t shared, fields.integer("shared_intermediate_size", 0, kMaxDim, 0));
  if (shared != 0) return fields.wrong("shared_intermediate_size", "0");
  HEARTH_ASSIGN(const auto kinds, fields.integers("attn_type_list", kMaxLayers));
  for (const int64_t kind : kinds) {
    if (kind != 1) return unimplemented(fields.where(), ": attn_type_list: expected 1 of every layer, found ", kind);
  }
  return {};
}

void set(ModelConfig& config) {
  for (LayerSpec& layer : config.layers) {
    layer.attention.qk_norm = QkNorm::kAllHeads;
    layer.feed_forward.router_correction = layer.feed_forward.scoring.sigmoid = true;
  }
}

Status read(const ConfigFields& fields, ModelConfig& config) {
  HEARTH_TRY(check_variant(fields));
  set(config);
  HEARTH_ASSIGN(const int64_t experts, fields.integer("num_local_experts", 1, kMaxExperts, 256));
  HEARTH_ASSIGN(const int64_t chosen, fields.integer("num_experts_per_tok", 1, kMaxExperts, 8));
  HEARTH_ASSIGN(config.draft_layers, fields.integer("num_mtp_modules", 0, 16, 0));
  const bool says_dim = fields.find("head_dim") != nullptr;
  for (LayerSpec& layer : config.layers) {
    layer.feed_forward.experts = experts, layer.feed_forward.experts_per_token = chosen;
    AttentionSpec& attention = layer.attention;
    if (!says_dim) attention.head_dim = 128;  // transformers' default
    HEARTH_ASSIGN(attention.rotary, fields.integer("rotary_dim", 2, attention.head_dim, 0));
  }
  return {};
}

Status read_gguf(const GgufFields& fields, ModelConfig& config) {
  set(config);
  Scoring scoring;
  HEARTH_TRY(read_gguf_sigmoids(fields, scoring));
  HEARTH_ASSIGN(scoring.renormalize, fields.boolean("expert_weights_norm", true));  // as llama.cpp runs it
  HEARTH_ASSIGN(const int64_t width, fields.integer("expert_feed_forward_length", kMaxDim));
  for (LayerSpec& layer : config.layers) {
    layer.feed_forward.scoring = scoring;
    layer.feed_forward.intermediate = width;
  }
  return {};
}

constexpr NameRule kNames[] = {
    {"model.layers.#.block_sparse_moe.e_score_correction_bias", "layers.#.router.correction.bias"},
    {"model.layers.#.block_sparse_moe.gate", "layers.#.router"},
    {"model.layers.#.block_sparse_moe.experts.#.w1", "layers.#.experts.#.gate"},
    {"model.layers.#.block_sparse_moe.experts.#.w3", "layers.#.experts.#.up"},
    {"model.layers.#.block_sparse_moe.experts.#.w2", "layers.#.experts.#.down"},
    // As transformers 5 writes it.
    {"model.layers.#.mlp.e_score_correction_bias", "layers.#.router.correction.bias"},
};

}  // namespace

const Family kMinimaxM2{.name = "minimax_m2",
                        .gguf = "minimax-m2",
                        .rope_theta = 5e6,
                        .rotary_share = 1.0,
                        .published_with_code = true,
                        .read = read,
                        .read_gguf = read_gguf,
                        .names = kNames};

}  // namespace hearth
