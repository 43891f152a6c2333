// Mistral 7B and its like: Llama's layers with a sliding window.
#include "models/family.h"

namespace hearth {
namespace {

Status read(const ConfigFields& fields, ModelConfig& config) {
  // Null is no window; transformers takes a config that does not mention it for one of 4096.
  const int64_t unstated = fields.mentions("sliding_window") ? 0 : 4096;
  HEARTH_ASSIGN(const int64_t window, fields.integer("sliding_window", 1, kMaxPositions, unstated));
  for (LayerSpec& layer : config.layers) layer.attention.window = window;
  HEARTH_TRY(fields.refuse("attention_bias"));
  return fields.refuse("mlp_bias");
}

}  // namespace

const Family kMistral{.name = "mistral", .read = read};

}  // namespace hearth
