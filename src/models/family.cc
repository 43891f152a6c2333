// The list of families, and the names that most of them use.
#include "models/family.h"

namespace hearth {
namespace {

constexpr const Family* kFamilies[] = {&kLlama, &kMistral, &kMixtral};

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
    {"model.layers.#.post_attention_layernorm", "layers.#.feed_forward_norm"},
    {"model.layers.#.mlp.gate_proj", "layers.#.gate"},
    {"model.layers.#.mlp.up_proj", "layers.#.up"},
    {"model.layers.#.mlp.down_proj", "layers.#.down"},
    // A router and its experts, all in one tensor as transformers 5 keeps them.
    {"model.layers.#.mlp.gate", "layers.#.router"},
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
    {"blk.#.ffn_norm", "layers.#.feed_forward_norm"},
    {"blk.#.ffn_gate", "layers.#.gate"},
    {"blk.#.ffn_up", "layers.#.up"},
    {"blk.#.ffn_down", "layers.#.down"},
    {"blk.#.ffn_gate_inp", "layers.#.router"},
    {"blk.#.ffn_gate_exps", "layers.#.experts.#.gate"},
    {"blk.#.ffn_up_exps", "layers.#.experts.#.up"},
    {"blk.#.ffn_down_exps", "layers.#.experts.#.down"},
};

}  // namespace

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
  return rename_tensors(std::move(file), rules, {attention.heads, attention.kv_heads});
}

}  // namespace hearth
