// The names and shapes of Llama's and Mixtral's checkpoints.
#include "models/dummy_checkpoint.h"

#include <algorithm>

#include "ops/backend.h"

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
    if (name.ends_with(".weight_scale")) return scale(kRandomWeightDeviation / kRandomE4M3Deviation);
    if (name.ends_with(".input_scale")) return scale(kInputScale);
    return HostTensor{{nullptr, entry.dtype, entry.shape}, nullptr};
  }

 private:
  // The gate's times up's values of random weights in Mixtral's shape reach 10 to 15, attention's a few times V's
  // deviation of 1.3, and 28 can be held.
  static constexpr float kInputScale = 1.0f / 16;

  static HostTensor scale(float value) {
    auto owner = std::make_shared<float>(value);
    return {{owner.get(), DType::kF32, Shape{}}, owner};
  }

  void add(std::string name, DType dtype, Shape shape) {
    std::string source = cat(path_, ": ", name);
    entries_.emplace(std::move(name), Entry{dtype, shape, std::move(source)});
  }
  void add(std::string name, const ModelConfig& config, Shape shape) { add(std::move(name), config.dtype, shape); }

  // A linear layer's matrix.
  void add_matrix(const std::string& name, const ModelConfig& c, Shape shape) {
    if (!c.quantization.fp8) return add(name + ".weight", c, shape);
    add(name + ".weight", DType::kE4M3, shape);
    add(name + ".weight_scale", DType::kF32, {});
    if (c.quantization.static_activations) add(name + ".input_scale", DType::kF32, {});
  }

  void add_layer(const std::string& layer, const ModelConfig& c) {
    const std::string attention = layer + "self_attn.";
    const int64_t q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
    add(layer + "input_layernorm.weight", c, {c.hidden});
    add(layer + "post_attention_layernorm.weight", c, {c.hidden});
    add_matrix(attention + "q_proj", c, {q, c.hidden});
    add_matrix(attention + "k_proj", c, {kv, c.hidden});
    add_matrix(attention + "v_proj", c, {kv, c.hidden});
    add_matrix(attention + "o_proj", c, {c.hidden, q});
    if (c.experts == 0) {
      add_matrix(layer + "mlp.gate_proj", c, {c.intermediate, c.hidden});
      add_matrix(layer + "mlp.up_proj", c, {c.intermediate, c.hidden});
      add_matrix(layer + "mlp.down_proj", c, {c.hidden, c.intermediate});
      return;
    }
    add(layer + "block_sparse_moe.gate.weight", c, {c.experts, c.hidden});
    for (int64_t e = 0; e < c.experts; ++e) {
      const std::string expert = cat(layer, "block_sparse_moe.experts.", e, ".");
      add_matrix(expert + "w1", c, {c.intermediate, c.hidden});
      add_matrix(expert + "w2", c, {c.hidden, c.intermediate});
      add_matrix(expert + "w3", c, {c.intermediate, c.hidden});
    }
  }
};

}  // namespace

Result<std::shared_ptr<const Checkpoint>> make_dummy_checkpoint(const ModelConfig& c) {
  constexpr int64_t kMaxExperts = 1 << 18;  // in all layers; a name for each of their matrices is made
  constexpr double kMaxBytes = int64_t{1} << 46;
  const int64_t experts = c.layers * std::max<int64_t>(c.experts, 1);
  if (experts > kMaxExperts) {
    return unimplemented("dummy weights: expected at most ", kMaxExperts, " experts in all layers, found ", experts);
  }
  const auto matrix = [](int64_t rows, int64_t columns) { return static_cast<double>(rows * columns); };
  const double bytes =
      static_cast<double>(dtype_size(c.quantization.fp8 ? DType::kE4M3 : c.dtype)) *
      (2 * matrix(c.vocab, c.hidden) + static_cast<double>(experts) * 3 * matrix(c.intermediate, c.hidden) +
       static_cast<double>(c.layers) * 2 * matrix(c.heads + c.kv_heads, c.head_dim) * static_cast<double>(c.hidden));
  if (bytes > kMaxBytes) return unimplemented("dummy weights: expected at most 64 TiB, found more");
  return std::shared_ptr<const Checkpoint>(std::make_shared<DummyCheckpoint>(c));
}

}  // namespace hearth
