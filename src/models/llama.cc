// Llama's layers, loaded and run.
#include "models/llama.h"

namespace hearth {

Llama::Llama(ModelConfig config, const ModelOptions& options, DType act)
    : config_(std::move(config)), options_(options), act_(act), layers_(static_cast<size_t>(config_.layers)) {}

Status Llama::load(WeightLoader& loader) {
  HEARTH_TRY(embedding_.load(loader, config_, options_));
  HEARTH_TRY(shared_.load(loader, config_, options_));
  for (int64_t i = 0; i < config_.layers; ++i) {
    const std::string prefix = cat("model.layers.", i, ".");
    Layer& layer = layers_[static_cast<size_t>(i)];
    HEARTH_TRY(layer.attention.load(loader, prefix, config_, options_, shared_));
    HEARTH_ASSIGN(layer.norm, loader.vector(prefix + "post_attention_layernorm.weight", config_.hidden));
    HEARTH_ASSIGN(layer.mlp, loader.mlp(prefix + "mlp.", config_.intermediate, config_.hidden));
    if (loader.checking()) continue;
    HEARTH_TRY(
        normed_.reserve(loader.backend(), "MLP input", layer.mlp.gate_up.input, options_.max_tokens, config_.hidden));
    HEARTH_TRY(intermediate_.reserve(loader.backend(), "MLP intermediate", layer.mlp.down.input, options_.max_tokens,
                                     config_.intermediate));
  }
  return head_.load(loader, config_, options_.max_logits);
}

void Llama::forward(Ops& ops, const Batch& batch, const KvCache& cache, Tensor logits) {
  Stream stream = embedding_.forward(ops, batch);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    layer.attention.forward(ops, batch, config_, shared_, cache[i], stream, embedding_.delta(batch.num_tokens));
    const Rows rows = rows_behind_attention(batch, i + 1 == layers_.size());
    if (rows.count == 0) return;
    const int64_t n = rows.count;
    const Activation normed = normed_.first(layer.mlp.gate_up.input, n);
    norm_behind_attention(ops, config_, embedding_, layer.norm, rows, normed, {}, stream);
    const InputType between = layer.mlp.down.input;
    stream.delta = embedding_.delta(n);
    ops.mlp({normed, &layer.mlp, intermediate_.first(between, n), intermediate_.first_act(between, n), stream.delta,
             rows.num_rows});
  }
  head_.forward(ops, batch, config_, stream, logits);
}

}  // namespace hearth
