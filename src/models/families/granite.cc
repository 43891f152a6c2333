// Granite 3 (dense, granitemoe, and granitemoeshared with a shared expert): Llama's layers, whose parts are multiplied
// by numbers of the config. Source: IBM 2024.
#include "models/family.h"

namespace hearth {
namespace {

// What the model multiplies: embeddings, what a block adds to the residual stream, q.k; and what it divides logits by.
struct Multipliers {
  double embedding = 1, residual = 1, attention = 1, logits = 1;
};

// A residual stream divided by the residual multiplier throughout is the same model: blocks then add what they give,
// and a norm undoes the division, its epsilon divided by the square. So no op has to multiply.
void set(const Multipliers& m, ModelConfig& config) {
  config.embedding_scale = static_cast<float>(m.embedding / m.residual);
  config.logits_scale = static_cast<float>(1 / m.logits);
  config.rms_epsilon = static_cast<float>(double{config.rms_epsilon} / (m.residual * m.residual));
  for (LayerSpec& layer : config.layers) layer.attention.scale = static_cast<float>(m.attention);
}

Status read_layers(const ConfigFields& fields, ModelConfig& config) {
  Multipliers m;
  HEARTH_ASSIGN(m.embedding, fields.positive("embedding_multiplier", 1.0));
  HEARTH_ASSIGN(m.residual, fields.positive("residual_multiplier", 1.0));
  HEARTH_ASSIGN(m.attention, fields.positive("attention_multiplier", 1.0));
  HEARTH_ASSIGN(m.logits, fields.positive("logits_scaling", 1.0));
  set(m, config);
  HEARTH_ASSIGN(const bool bias, fields.boolean("attention_bias", false));
  for (LayerSpec& layer : config.layers) layer.attention.qkv_bias = layer.attention.out_bias = bias;
  return {};
}

Status read(const ConfigFields& fields, ModelConfig& config) {
  HEARTH_TRY(read_layers(fields, config));
  return fields.refuse("mlp_bias");
}

Status read_moe(const ConfigFields& fields, ModelConfig& config) {
  HEARTH_TRY(read_layers(fields, config));
  HEARTH_ASSIGN(const int64_t experts, fields.integer("num_local_experts", 1, kMaxExperts, 8));
  HEARTH_ASSIGN(const int64_t chosen, fields.integer("num_experts_per_tok", 1, kMaxExperts, 2));
  for (LayerSpec& layer : config.layers) {
    layer.feed_forward.experts = experts, layer.feed_forward.experts_per_token = chosen;
  }
  return {};
}

Status read_shared(const ConfigFields& fields, ModelConfig& config) {
  HEARTH_TRY(read_moe(fields, config));
  HEARTH_ASSIGN(const int64_t shared, fields.integer("shared_intermediate_size", 0, kMaxDim, 1024));
  for (LayerSpec& layer : config.layers) layer.feed_forward.shared_intermediate = shared;
  return {};
}

Status read_gguf(const GgufFields& fields, ModelConfig& config) {
  Multipliers m;
  // Where it is not there, llama.cpp divides by the square root of the channels.
  m.attention = 0;
  for (const auto& [key, value] : {std::pair("embedding_scale", &m.embedding), std::pair("residual_scale", &m.residual),
                                   std::pair("attention.scale", &m.attention), std::pair("logit_scale", &m.logits)}) {
    HEARTH_ASSIGN(*value, fields.number(key, *value));
    if (!fields.has(key) || (*value > 0 && *value < 1e6)) continue;
    return invalid(fields.file().path(), ": ", fields.name(key), ": expected a number above 0, found ", *value);
  }
  set(m, config);
  return {};
}

Status read_gguf_moe(const GgufFields& fields, ModelConfig& config) {
  HEARTH_TRY(read_gguf(fields, config));
  HEARTH_ASSIGN(const int64_t shared, fields.integer("expert_shared_feed_forward_length", kMaxDim, 0));
  for (LayerSpec& layer : config.layers) layer.feed_forward.shared_intermediate = shared;
  return {};
}

constexpr NameRule kNames[] = {
    {"model.layers.#.block_sparse_moe.router.layer", "layers.#.router"},
    {"model.layers.#.block_sparse_moe.input_linear", "layers.#.experts.#.gate", "layers.#.experts.#.up"},
    {"model.layers.#.block_sparse_moe.output_linear", "layers.#.experts.#.down"},
    {"model.layers.#.shared_mlp.input_linear", "layers.#.shared.gate", "layers.#.shared.up"},
    {"model.layers.#.shared_mlp.output_linear", "layers.#.shared.down"},
    // As transformers 5 writes it.
    {"model.layers.#.block_sparse_moe.router", "layers.#.router"},
    {"model.layers.#.block_sparse_moe.experts.gate_up_proj", "layers.#.experts.#.gate", "layers.#.experts.#.up"},
    {"model.layers.#.block_sparse_moe.experts.down_proj", "layers.#.experts.#.down"},
};

constexpr NameRule kGgufNames[] = {
    {"blk.#.attn_q", "layers.#.q", {}, RowOrder::kQueryPairs},
    {"blk.#.attn_k", "layers.#.k", {}, RowOrder::kKeyPairs},
};

}  // namespace

const Family kGranite{
    .name = "granite", .gguf = "granite", .read = read, .read_gguf = read_gguf, .gguf_names = kGgufNames};
const Family kGraniteMoe{.name = "granitemoe",
                         .gguf = "granitemoe",
                         .read = read_moe,
                         .read_gguf = read_gguf_moe,
                         .names = kNames,
                         .gguf_names = kGgufNames};
const Family kGraniteMoeShared{.name = "granitemoeshared", .read = read_shared, .names = kNames};

}  // namespace hearth
