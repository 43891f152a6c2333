// Mixtral 8x7B and 8x22B: Llama's attention, and a router that sends each token to a few of a layer's experts.
#include "models/family.h"

namespace hearth {
namespace {

Status read(const ConfigFields& fields, ModelConfig& config) {
  HEARTH_ASSIGN(const int64_t window, fields.integer("sliding_window", 1, kMaxPositions, 0));
  HEARTH_ASSIGN(const int64_t experts, fields.integer("num_local_experts", 1, kMaxExperts, 8));
  HEARTH_ASSIGN(const int64_t chosen, fields.integer("num_experts_per_tok", 1, kMaxExperts, 2));
  for (LayerSpec& layer : config.layers) {
    layer.attention.window = window;
    layer.feed_forward.experts = experts, layer.feed_forward.experts_per_token = chosen;
  }
  HEARTH_TRY(fields.refuse("attention_bias"));
  return fields.refuse("mlp_bias");
}

// transformers 4; what transformers 5 writes is named as everywhere.
constexpr NameRule kNames[] = {
    {"model.layers.#.block_sparse_moe.gate", "layers.#.router"},
    {"model.layers.#.block_sparse_moe.experts.#.w1", "layers.#.experts.#.gate"},
    {"model.layers.#.block_sparse_moe.experts.#.w3", "layers.#.experts.#.up"},
    {"model.layers.#.block_sparse_moe.experts.#.w2", "layers.#.experts.#.down"},
};

}  // namespace

const Family kMixtral{.name = "mixtral", .rope_theta = 1e6, .read = read, .names = kNames};

}  // namespace hearth
