// Qwen2 and Qwen2.5: Llama's layers with biases on q, k and v. Source: Yang et al. 2024.
#include "models/family.h"

namespace hearth {
namespace {

void set_biases(ModelConfig& config) {
  for (LayerSpec& layer : config.layers) layer.attention.qkv_bias = true;
}

Status read(const ConfigFields& fields, ModelConfig& config) {
  set_biases(config);
  return read_layer_windows(fields, config);
}

Status read_gguf(const GgufFields&, ModelConfig& config) {
  set_biases(config);
  return {};
}

}  // namespace

const Family kQwen2{.name = "qwen2", .gguf = "qwen2", .read = read, .read_gguf = read_gguf};

}  // namespace hearth
