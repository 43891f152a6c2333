// Mixtral's layers, loaded and run.
#include "models/mixtral.h"

namespace hearth {

Mixtral::Mixtral(ModelConfig config, const ModelOptions& options, DType act)
    : config_(std::move(config)), options_(options), act_(act), layers_(static_cast<size_t>(config_.layers)) {}

Status Mixtral::load(WeightLoader& loader) {
  HEARTH_TRY(embedding_.load(loader, config_, options_));
  HEARTH_TRY(shared_.load(loader, config_, options_));
  if (!loader.checking()) HEARTH_TRY(reserve(loader.backend()));
  for (int64_t i = 0; i < config_.layers; ++i) {
    const std::string prefix = cat("model.layers.", i, "."), moe = prefix + "block_sparse_moe.";
    Layer& layer = layers_[static_cast<size_t>(i)];
    HEARTH_TRY(layer.attention.load(loader, prefix, config_, options_, shared_));
    HEARTH_ASSIGN(layer.norm, loader.vector(prefix + "post_attention_layernorm.weight", config_.hidden));
    HEARTH_ASSIGN(layer.router, loader.router(moe + "gate", config_.experts, config_.hidden));
    HEARTH_ASSIGN(layer.experts,
                  loader.experts(moe + "experts.", config_.experts, config_.intermediate, config_.hidden));
    if (loader.checking()) continue;
    HEARTH_TRY(gathered_.reserve(loader.backend(), "expert input", layer.experts.input, expert_rows_, config_.hidden));
    HEARTH_TRY(intermediate_.reserve(loader.backend(), "expert intermediate", layer.experts.down_input, expert_rows_,
                                     config_.intermediate));
  }
  return head_.load(loader, config_, options_.max_logits);
}

Status Mixtral::reserve(Backend& backend) {
  const int64_t n = options_.max_tokens, top_k = config_.experts_per_token;
  expert_rows_ = backend.expert_rows(n, top_k, config_.experts);
  HEARTH_ASSIGN(normed_, backend.allocate("MoE input", backend.act(), {n, config_.hidden}));
  HEARTH_ASSIGN(expert_out_, backend.allocate("expert output", backend.act(), {expert_rows_, config_.hidden}));
  HEARTH_ASSIGN(routing_.experts, backend.allocate("routing", DType::kI32, {n, top_k}));
  HEARTH_ASSIGN(routing_.weights, backend.allocate("routing", DType::kF32, {n, top_k}));
  HEARTH_ASSIGN(routing_.rows, backend.allocate("routing", DType::kI32, {n, top_k}));
  HEARTH_ASSIGN(routing_.starts, backend.allocate("routing", DType::kI32, {config_.experts}));
  HEARTH_ASSIGN(routing_.ends, backend.allocate("routing", DType::kI32, {config_.experts}));
  return {};
}

Routing Mixtral::routing(int64_t num_tokens) const {
  Routing out = routing_;
  for (Tensor* per_token : {&out.experts, &out.weights, &out.rows}) *per_token = per_token->rows(0, num_tokens);
  return out;
}

void Mixtral::forward(Ops& ops, const Batch& batch, const KvCache& cache, Tensor logits) {
  Stream stream = embedding_.forward(ops, batch);
  Routing routing;
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    layer.attention.forward(ops, batch, config_, shared_, cache[i], stream, embedding_.delta(batch.num_tokens));
    const Rows rows = rows_behind_attention(batch, i + 1 == layers_.size());
    if (rows.count == 0) return;
    const Tensor normed = normed_.rows(0, rows.count);
    // Unquantized: the router reads 16 bit; the experts quantize what they gather.
    norm_behind_attention(ops, config_, embedding_, layer.norm, rows, {}, normed, stream);
    routing = this->routing(rows.count);
    ops.route({normed, layer.router, rows.num_rows, /*renormalize=*/true, routing});
    const InputType down_input = layer.experts.down_input;
    ops.experts({normed, rows.num_rows, &routing, &layer.experts, gathered_.first(layer.experts.input, expert_rows_),
                 intermediate_.first(down_input, expert_rows_), intermediate_.first_act(down_input, expert_rows_),
                 expert_out_});
    stream = {stream.residual, expert_out_, &routing};
  }
  head_.forward(ops, batch, config_, stream, logits);
}

}  // namespace hearth
