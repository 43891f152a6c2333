// gpt-oss (20b, 120b): attention with sinks and biases, a window in every other layer; a router with a bias that weighs
// the chosen alone; experts with biases and a clamped SwiGLU, whose gate and up stand in turns of one row. Source:
// OpenAI 2025.
#include <cmath>

#include "models/family.h"

namespace hearth {
namespace {

void set(ModelConfig& config, bool attention_bias) {
  for (LayerSpec& layer : config.layers) {
    layer.attention.qkv_bias = layer.attention.out_bias = attention_bias;
    layer.attention.sinks = true;
    layer.feed_forward.router_bias = layer.feed_forward.expert_bias = true;
    layer.feed_forward.swiglu.clamped = true;
  }
}

// Layers 0, 2, ... have it.
void set_windows(ModelConfig& config, int64_t window) {
  for (size_t i = 0; i < config.layers.size(); i += 2) config.layers[i].attention.window = window;
}

RopeConfig default_rope() {
  RopeConfig out;
  out.scaling = RopeScaling::kYarn;
  out.factor = 32;
  out.original_max_positions = 4096;
  out.attention_factor = 0.1 * std::log(out.factor) + 1;
  out.truncate = false;
  return out;
}

Status read(const ConfigFields& fields, ModelConfig& config) {
  HEARTH_ASSIGN(const bool bias, fields.boolean("attention_bias", true));
  set(config, bias);
  HEARTH_ASSIGN(const int64_t experts, fields.integer("num_local_experts", 1, kMaxExperts, 128));
  HEARTH_ASSIGN(const int64_t chosen, fields.integer("num_experts_per_tok", 1, kMaxExperts, 4));
  HEARTH_ASSIGN(const double limit, fields.positive("swiglu_limit", 7.0));
  HEARTH_ASSIGN(const double alpha, fields.positive("swiglu_alpha", 1.702));
  const bool says_dim = fields.find("head_dim") != nullptr;
  for (LayerSpec& layer : config.layers) {
    if (!says_dim) layer.attention.head_dim = 64;  // transformers' default
    FeedForwardSpec& f = layer.feed_forward;
    f.experts = experts, f.experts_per_token = chosen;
    f.swiglu.limit = static_cast<float>(limit), f.swiglu.alpha = static_cast<float>(alpha);
  }
  config.rope = default_rope();
  const int64_t unstated = fields.mentions("sliding_window") ? 0 : 128;
  HEARTH_ASSIGN(const int64_t window, fields.integer("sliding_window", 1, kMaxPositions, unstated));
  if (fields.find("layer_types") == nullptr) {
    set_windows(config, window);
    return {};
  }
  HEARTH_ASSIGN(const auto slides, read_layer_types(fields, std::ssize(config.layers)));
  for (size_t i = 0; i < slides.size(); ++i) {
    if (slides[i] && window == 0) return fields.wrong("sliding_window", "a window, for layer_types slide");
    if (slides[i]) config.layers[i].attention.window = window;
  }
  return {};
}

Status read_gguf(const GgufFields& fields, ModelConfig& config) {
  set(config, fields.checkpoint().has("blk.0.attn_q.bias"));
  HEARTH_ASSIGN(const int64_t width, fields.integer("expert_feed_forward_length", kMaxDim));
  for (LayerSpec& layer : config.layers) layer.feed_forward.intermediate = width;
  HEARTH_ASSIGN(const int64_t window, fields.integer("attention.sliding_window", kMaxPositions, 0));
  set_windows(config, window);
  constexpr int64_t kSoftmaxOfChosen = 3;
  HEARTH_ASSIGN(const int64_t gating, fields.integer("expert_gating_func", 16, kSoftmaxOfChosen));
  if (gating != kSoftmaxOfChosen) {
    return unimplemented(fields.file().path(), ": ", fields.name("expert_gating_func"), ": expected ", kSoftmaxOfChosen,
                         ", found ", gating);
  }
  config.rope.truncate = false;  // as the model was trained
  return {};
}

constexpr NameRule kNames[] = {
    {"model.layers.#.self_attn.sinks", "layers.#.attention.sinks.weight"},
    {"model.layers.#.mlp.router", "layers.#.router"},
    {.file = "model.layers.#.mlp.experts.gate_up_proj",
     .own = "layers.#.experts.#.gate",
     .second = "layers.#.experts.#.up",
     .order = RowOrder::kInTurns,
     .columns_first = true},
    {.file = "model.layers.#.mlp.experts.down_proj", .own = "layers.#.experts.#.down", .columns_first = true},
};

constexpr NameRule kGgufNames[] = {
    {"blk.#.attn_sinks", "layers.#.attention.sinks"},
    {"blk.#.post_attention_norm", "layers.#.feed_forward_norm"},
};

}  // namespace

const Family kGptOss{.name = "gpt_oss",
                     .gguf = "gpt-oss",
                     .rope_theta = 150000,
                     .read = read,
                     .read_gguf = read_gguf,
                     .names = kNames,
                     .gguf_names = kGgufNames};

}  // namespace hearth
