// Qwen3, dense: Llama's layers with an RMS norm of each query and key head. Source: Yang et al. 2025.
#include "models/family.h"

namespace hearth {
namespace {

void set_norms(ModelConfig& config) {
  for (LayerSpec& layer : config.layers) layer.attention.qk_norm = QkNorm::kEachHead;
}

Status read(const ConfigFields& fields, ModelConfig& config) {
  set_norms(config);
  HEARTH_ASSIGN(const bool bias, fields.boolean("attention_bias", false));
  const bool says_dim = fields.find("head_dim") != nullptr;
  for (LayerSpec& layer : config.layers) {
    layer.attention.qkv_bias = layer.attention.out_bias = bias;
    if (!says_dim) layer.attention.head_dim = 128;  // transformers' default
  }
  return read_layer_windows(fields, config);
}

Status read_gguf(const GgufFields&, ModelConfig& config) {
  set_norms(config);
  return {};
}

}  // namespace

const Family kQwen3{.name = "qwen3", .gguf = "qwen3", .read = read, .read_gguf = read_gguf};

}  // namespace hearth
