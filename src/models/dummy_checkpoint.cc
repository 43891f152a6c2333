// The names and shapes of Llama's and Mixtral's checkpoints.
#include "models/dummy_checkpoint.h"

namespace hearth {
namespace {

class DummyCheckpoint final : public Checkpoint {
 public:
  explicit DummyCheckpoint(const ModelConfig& c) {
    path_ = "dummy weights";
    add("model.embed_tokens.weight", c, {c.vocab, c.hidden});
    for (int64_t i = 0; i < c.layers; ++i) add_layer(cat("model.layers.", i, "."), c);
    add("model.norm.weight", c, {c.hidden});
    if (!c.tied_head) add("lm_head.weight", c, {c.vocab, c.hidden});
  }

  Result<HostTensor> read(std::string_view name) const override {
    const Entry& entry = entries_.find(name)->second;
    return HostTensor{{nullptr, entry.dtype, entry.shape}, nullptr};
  }

 private:
  void add(std::string name, const ModelConfig& config, Shape shape) {
    std::string source = cat(path_, ": ", name);
    entries_.emplace(std::move(name), Entry{config.dtype, shape, std::move(source)});
  }

  void add_layer(const std::string& layer, const ModelConfig& c) {
    const std::string attention = layer + "self_attn.";
    const int64_t q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
    add(layer + "input_layernorm.weight", c, {c.hidden});
    add(layer + "post_attention_layernorm.weight", c, {c.hidden});
    add(attention + "q_proj.weight", c, {q, c.hidden});
    add(attention + "k_proj.weight", c, {kv, c.hidden});
    add(attention + "v_proj.weight", c, {kv, c.hidden});
    add(attention + "o_proj.weight", c, {c.hidden, q});
    if (c.experts == 0) {
      add(layer + "mlp.gate_proj.weight", c, {c.intermediate, c.hidden});
      add(layer + "mlp.up_proj.weight", c, {c.intermediate, c.hidden});
      add(layer + "mlp.down_proj.weight", c, {c.hidden, c.intermediate});
      return;
    }
    add(layer + "block_sparse_moe.gate.weight", c, {c.experts, c.hidden});
    for (int64_t e = 0; e < c.experts; ++e) {
      const std::string expert = cat(layer, "block_sparse_moe.experts.", e, ".");
      add(expert + "w1.weight", c, {c.intermediate, c.hidden});
      add(expert + "w2.weight", c, {c.hidden, c.intermediate});
      add(expert + "w3.weight", c, {c.intermediate, c.hidden});
    }
  }
};

}  // namespace

std::shared_ptr<const Checkpoint> make_dummy_checkpoint(const ModelConfig& config) {
  return std::make_shared<DummyCheckpoint>(config);
}

}  // namespace hearth
