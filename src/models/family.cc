// The list of families, and the names that most of them use.
#include "models/family.h"

#include <algorithm>

#include "base/log.h"

namespace hearth {
namespace {

constexpr const Family* kFamilies[] = {&kGlm4Moe, &kGptOss,    &kGranite, &kGraniteMoe, &kGraniteMoeShared,
                                       &kLlama,   &kMinimaxM2, &kMistral, &kMixtral,    &kOlmoe,
                                       &kQwen2,   &kQwen2Moe,  &kQwen3,   &kQwen3Moe};

// As transformers names them.
constexpr NameRule kCommonNames[] = {
    {"model.embed_tokens", "embedding"},
    {"model.norm", "norm"},
    {"lm_head", "head"},
    {"model.layers.#.input_layernorm", "layers.#.attention_norm"},
    {"model.layers.#.self_attn", "layers.#.attention"},  // static scales of the KV cache
    {"model.layers.#.self_attn.q_proj", "layers.#.q"},
    {"model.layers.#.self_attn.k_proj", "layers.#.k"},
    {"model.layers.#.self_attn.v_proj", "layers.#.v"},
    {"model.layers.#.self_attn.o_proj", "layers.#.o"},
    {"model.layers.#.self_attn.q_norm", "layers.#.q_norm"},
    {"model.layers.#.self_attn.k_norm", "layers.#.k_norm"},
    {"model.layers.#.post_attention_layernorm", "layers.#.feed_forward_norm"},
    {"model.layers.#.mlp.gate_proj", "layers.#.gate"},
    {"model.layers.#.mlp.up_proj", "layers.#.up"},
    {"model.layers.#.mlp.down_proj", "layers.#.down"},
    // A router and its experts, a matrix each, or all in one tensor as transformers 5 may keep them.
    {"model.layers.#.mlp.gate", "layers.#.router"},
    {"model.layers.#.mlp.experts.#.gate_proj", "layers.#.experts.#.gate"},
    {"model.layers.#.mlp.experts.#.up_proj", "layers.#.experts.#.up"},
    {"model.layers.#.mlp.experts.#.down_proj", "layers.#.experts.#.down"},
    {"model.layers.#.mlp.experts.gate_up_proj", "layers.#.experts.#.gate", "layers.#.experts.#.up"},
    {"model.layers.#.mlp.experts.down_proj", "layers.#.experts.#.down"},
};

// As llama.cpp's converter names them.
constexpr NameRule kCommonGgufNames[] = {
    {"token_embd", "embedding"},
    {"output_norm", "norm"},
    {"output", "head"},
    {"blk.#.attn_norm", "layers.#.attention_norm"},
    {"blk.#.attn_q", "layers.#.q"},
    {"blk.#.attn_k", "layers.#.k"},
    {"blk.#.attn_v", "layers.#.v"},
    {"blk.#.attn_output", "layers.#.o"},
    {"blk.#.attn_q_norm", "layers.#.q_norm"},
    {"blk.#.attn_k_norm", "layers.#.k_norm"},
    {"blk.#.ffn_norm", "layers.#.feed_forward_norm"},
    {"blk.#.ffn_gate", "layers.#.gate"},
    {"blk.#.ffn_up", "layers.#.up"},
    {"blk.#.ffn_down", "layers.#.down"},
    {"blk.#.ffn_gate_inp", "layers.#.router"},
    {"blk.#.ffn_gate_exps", "layers.#.experts.#.gate"},
    {"blk.#.ffn_up_exps", "layers.#.experts.#.up"},
    {"blk.#.ffn_down_exps", "layers.#.experts.#.down"},
    {"blk.#.exp_probs_b", "layers.#.router.correction"},
    {"blk.#.ffn_gate_shexp", "layers.#.shared.gate"},
    {"blk.#.ffn_up_shexp", "layers.#.shared.up"},
    {"blk.#.ffn_down_shexp", "layers.#.shared.down"},
    {"blk.#.ffn_gate_inp_shexp", "layers.#.shared_gate"},
};

// What the file's names of layers that are not used begin with.
std::vector<std::string> draft_layers(const Checkpoint& file, const ModelConfig& config) {
  std::vector<std::string> out;
  for (int64_t i = 0; i < config.draft_layers; ++i) {
    out.push_back(cat(file.gguf() != nullptr ? "blk." : "model.layers.", std::ssize(config.layers) + i, "."));
    const auto first = file.entries().lower_bound(out.back());
    if (first == file.entries().end() || !first->first.starts_with(out.back())) continue;
    log_info(file.path(), ": ", out.back(), "*: a layer that guesses further tokens: not used");
  }
  return out;
}

}  // namespace

Result<std::vector<bool>> read_layer_types(const ConfigFields& fields, int64_t layers) {
  HEARTH_ASSIGN(const auto types, fields.strings("layer_types", layers));
  std::vector<bool> slides;
  for (const std::string& type : types) {
    slides.push_back(type == "sliding_attention");
    if (!slides.back() && type != "full_attention") {
      return unimplemented(fields.where(), ": layer_types: expected full_attention or sliding_attention, found ",
                           printable(type));
    }
  }
  return slides;
}

Status read_layer_windows(const ConfigFields& fields, ModelConfig& config) {
  const auto layers = static_cast<int64_t>(config.layers.size());
  HEARTH_ASSIGN(const bool used, fields.boolean("use_sliding_window", false));
  HEARTH_ASSIGN(const auto types, read_layer_types(fields, layers));
  HEARTH_ASSIGN(const int64_t first, fields.integer("max_window_layers", 0, kMaxDim, 28));
  const bool stated = fields.mentions("sliding_window");  // null: none
  HEARTH_ASSIGN(const int64_t window, fields.integer("sliding_window", 1, kMaxPositions, stated ? 0 : 4096));
  for (int64_t i = 0; i < layers; ++i) {
    const bool slides = types.empty() ? i >= first : types[static_cast<size_t>(i)];
    if (!slides || (!used && types.empty())) continue;
    if (!used || window == 0) return fields.wrong("sliding_window", "a window, for layer_types slide");
    config.layers[static_cast<size_t>(i)].attention.window = window;
  }
  return {};
}

const Family* find_family(std::string_view name) {
  for (const Family* family : kFamilies) {
    if (family->name == name) return family;
  }
  return nullptr;
}

const Family* find_gguf_family(std::string_view architecture) {
  for (const Family* family : kFamilies) {
    if (!family->gguf.empty() && family->gguf == architecture) return family;
  }
  return nullptr;
}

std::string family_names() {
  std::string out;
  for (const Family* family : kFamilies) out += cat(out.empty() ? "" : ", ", family->name);
  return out;
}

std::string gguf_family_names() {
  std::string out;
  for (const Family* family : kFamilies) {
    if (!family->gguf.empty()) out += cat(out.empty() ? "" : ", ", family->gguf);
  }
  return out;
}

Result<std::vector<bool>> read_sparse_layers(const ConfigFields& fields, int64_t layers) {
  HEARTH_ASSIGN(const int64_t step, fields.integer("decoder_sparse_step", 1, kMaxLayers, 1));
  HEARTH_ASSIGN(const auto dense, fields.integers("mlp_only_layers", kMaxLayers));
  std::vector<bool> out;
  for (int64_t i = 0; i < layers; ++i) {
    out.push_back(std::ranges::find(dense, i) == dense.end() && (i + 1) % step == 0);
  }
  return out;
}

Status read_gguf_sigmoids(const GgufFields& fields, Scoring& out) {
  constexpr int64_t kSigmoid = 2;
  out.sigmoid = true;
  HEARTH_ASSIGN(const int64_t gating, fields.integer("expert_gating_func", 16, kSigmoid));
  if (gating != kSigmoid) {
    return unimplemented(fields.file().path(), ": ", fields.name("expert_gating_func"), ": expected ", kSigmoid,
                         ", found ", gating);
  }
  HEARTH_ASSIGN(const double scale, fields.number("expert_weights_scale", 1.0));
  if (!(scale >= 0 && scale < 1e6)) {
    return invalid(fields.file().path(), ": ", fields.name("expert_weights_scale"),
                   ": expected a number from 0 to 1e6, found ", scale);
  }
  out.scale = scale == 0 ? 1.0f : static_cast<float>(scale);  // llama.cpp's 0 is "not there"
  return {};
}

Result<std::shared_ptr<const Checkpoint>> name_tensors(std::shared_ptr<const Checkpoint> file,
                                                       const ModelConfig& config) {
  const AttentionSpec& attention = config.layers[0].attention;
  std::vector<NameRule> rules;
  const auto add = [&](std::span<const NameRule> more) { rules.insert(rules.end(), more.begin(), more.end()); };
  if (const GgufFile* gguf = file->gguf()) {
    HEARTH_ASSIGN(const std::string_view architecture, gguf->string("general.architecture"));
    add(find_gguf_family(architecture)->gguf_names);
    add(kCommonGgufNames);
  } else {
    add(find_family(config.architecture)->names);
    add(kCommonNames);
  }
  const std::vector<std::string> unused = draft_layers(*file, config);
  return rename_tensors(std::move(file), rules, {attention.heads, attention.kv_heads}, unused);
}

}  // namespace hearth
