// Llama 2 and 3, and whatever else has their layers; of GGUF files, Mistral and Mixtral too, which llama.cpp knows by
// the same name.
#include "models/family.h"

namespace hearth {
namespace {

Status read(const ConfigFields& fields, ModelConfig& config) {
  HEARTH_ASSIGN(const bool bias, fields.boolean("attention_bias", false));
  for (LayerSpec& layer : config.layers) layer.attention.qkv_bias = layer.attention.out_bias = bias;
  return fields.refuse("mlp_bias");
}

Status read_gguf(const GgufFields& fields, ModelConfig& config) {
  const bool bias = fields.checkpoint().has("blk.0.attn_q.bias");
  for (LayerSpec& layer : config.layers) layer.attention.qkv_bias = layer.attention.out_bias = bias;
  if (config.layers[0].feed_forward.experts > 0) config.architecture = kMixtral.name;
  return {};
}

constexpr NameRule kGgufNames[] = {
    {"blk.#.attn_q", "layers.#.q", {}, RowOrder::kQueryPairs},
    {"blk.#.attn_k", "layers.#.k", {}, RowOrder::kKeyPairs},
    // A matrix an expert, in older Mixtral files.
    {"blk.#.ffn_gate.#", "layers.#.experts.#.gate"},
    {"blk.#.ffn_up.#", "layers.#.experts.#.up"},
    {"blk.#.ffn_down.#", "layers.#.experts.#.down"},
};

}  // namespace

const Family kLlama{.name = "llama", .gguf = "llama", .read = read, .read_gguf = read_gguf, .gguf_names = kGgufNames};

}  // namespace hearth
