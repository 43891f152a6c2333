// Mixtral's layers, loaded and run.
#include "models/mixtral.h"

namespace hearth {

Mixtral::Mixtral(ModelConfig config, const ModelOptions& options, DType act)
    : config_(std::move(config)), options_(options), act_(act), layers_(static_cast<size_t>(config_.layers)) {}

Status Mixtral::load(WeightLoader& loader) {
  HEARTH_TRY(embedding_.load(loader, config_, options_.max_tokens));
  HEARTH_TRY(shared_.load(loader, config_, options_.max_tokens, options_.max_model_len));
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
    const InputType input = layer.experts.input;
    HEARTH_TRY(gathered_.reserve(loader.backend(), "expert input", input, expert_rows_, config_.hidden));
    HEARTH_TRY(
        intermediate_.reserve(loader.backend(), "expert intermediate", input, expert_rows_, config_.intermediate));
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
  const int64_t n = batch.num_tokens;
  const Tensor delta = embedding_.delta(n), normed = normed_.rows(0, n);
  const Routing routing = this->routing(n);
  Stream stream = embedding_.forward(ops, batch);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    layer.attention.forward(ops, batch, config_, shared_, cache[i], stream, delta);
    // Unquantized: the router reads 16 bit; the experts quantize what they gather.
    ops.norm({stream.residual, stream.delta, layer.norm, config_.rms_epsilon, {}, normed, batch.true_tokens()});
    ops.route({normed, layer.router, batch.sizes, /*renormalize=*/true, routing});
    const InputType input = layer.experts.input;
    ops.experts({normed, batch.sizes, &routing, &layer.experts, gathered_.first(input, expert_rows_),
                 intermediate_.first(input, expert_rows_), intermediate_.first_act(input, expert_rows_), expert_out_});
    stream = {stream.residual, expert_out_, &routing};
  }
  head_.forward(ops, batch, config_, stream, logits);
}

}  // namespace hearth
