// Loading and running a decoder's layers.
#include "models/decoder.h"

#include <algorithm>
#include <cmath>

namespace hearth {

Decoder::Decoder(const ModelConfig& config, const ModelOptions& options, const Backend& backend)
    : config_(config),
      shard_(backend.shard()),
      expert_parallel_(options.expert_parallel),
      limits_(options.limits()),
      layers_(config.layers.size()) {
  for (size_t i = 0; i < layers_.size(); ++i) {
    const AttentionSpec& spec = config.layers[i].attention;
    layers_[i].attention.scale = spec.scale > 0 ? spec.scale : 1.0f / std::sqrt(static_cast<float>(spec.head_dim));
    AttentionShape& shape = layers_[i].attention.shape;
    shape = {shard_.part(spec.heads).size(), shard_.part(spec.kv_heads).size(), spec.head_dim, spec.window,
             options.kv_dtype(backend.act())};
    if (std::ranges::find(shapes_, shape) == shapes_.end()) shapes_.push_back(shape);
  }
}

std::vector<KvSpec> Decoder::kv_specs() const {
  std::vector<KvSpec> out;
  for (const Layer& layer : layers_) {
    const AttentionShape& shape = layer.attention.shape;
    out.push_back({shape.kv_heads, shape.head_dim, shape.kv});
  }
  return out;
}

Status Decoder::load(WeightLoader& loader) {
  Backend& backend = loader.backend();
  HEARTH_ASSIGN(table_, loader.table("embedding.weight", config_.vocab, config_.hidden, config_.embedding_scale));
  if (!loader.checking()) {
    HEARTH_ASSIGN(residual_, backend.rows_of("residual stream", limits_.max_tokens, config_.hidden));
    HEARTH_ASSIGN(delta_, backend.rows_of("block output", limits_.max_tokens, config_.hidden));
    HEARTH_ASSIGN(last_residual_, backend.rows_of("residual stream's end", limits_.max_logits, config_.hidden));
    HEARTH_TRY(load_rope(backend));
  }
  for (size_t i = 0; i < layers_.size(); ++i) {
    const std::string layer = cat("layers.", i, ".");
    HEARTH_TRY(load_attention(loader, layer, config_.layers[i].attention, layers_[i].attention));
    HEARTH_TRY(load_feed_forward(loader, layer, config_.layers[i].feed_forward, layers_[i].feed_forward));
  }
  HEARTH_ASSIGN(norm_, loader.vector("norm.weight", config_.hidden, config_.logits_scale));
  // Some files of a tied model hold the head all the same; it is the embedding.
  if (config_.tied_head) loader.ignore("head.weight");
  HEARTH_ASSIGN(head_, loader.head(config_.tied_head ? "embedding" : "head", config_.vocab, config_.hidden));
  if (loader.checking()) return {};
  HEARTH_ASSIGN(head_in_, backend.input_of("head input", head_, limits_.max_logits));
  if (!shard_.whole()) {
    HEARTH_ASSIGN(logits_, backend.allocate("a rank's logits", DType::kF32, {limits_.max_logits * head_.out()}));
  }
  return {};
}

Status Decoder::load_rope(Backend& backend) {
  const int64_t length = limits_.max_model_len, rotary = config_.layers[0].attention.rotary;
  std::vector<float> table = rope_table(config_.rope, rotary, length);
  HEARTH_ASSIGN(cos_sin_, backend.load("rotary table", {table.data(), DType::kF32, {length, rotary}}, DType::kF32));
  return {};
}

Status Decoder::load_attention(WeightLoader& loader, const std::string& layer, const AttentionSpec& spec,
                               Attention& out) {
  const int64_t q = spec.heads * spec.head_dim, kv = spec.kv_heads * spec.head_dim;
  HEARTH_ASSIGN(out.norm, loader.vector(layer + "attention_norm.weight", config_.hidden));
  HEARTH_ASSIGN(
      out.qkv,
      loader.heads({{layer + "q", q, spec.heads}, {layer + "k", kv, spec.kv_heads}, {layer + "v", kv, spec.kv_heads}},
                   config_.hidden, spec.qkv_bias));
  HEARTH_ASSIGN(out.out, loader.output(layer + "o", config_.hidden, q, spec.heads, spec.out_bias));
  if (spec.qk_norm != QkNorm::kNone) {
    const bool all = spec.qk_norm == QkNorm::kAllHeads;
    HEARTH_ASSIGN(out.qk_norm.q, loader.vector(layer + "q_norm.weight", all ? q : spec.head_dim));
    HEARTH_ASSIGN(out.qk_norm.k, loader.vector(layer + "k_norm.weight", all ? kv : spec.head_dim));
    out.qk_norm.epsilon = config_.rms_epsilon;
  }
  if (spec.sinks) {
    HEARTH_ASSIGN(out.sinks, loader.of_heads(layer + "attention.sinks.weight", spec.heads));
  }
  HEARTH_ASSIGN(out.k_scale, loader.kv_scale(layer, 'k', spec.kv_heads));
  HEARTH_ASSIGN(out.v_scale, loader.kv_scale(layer, 'v', spec.kv_heads));
  if (loader.checking()) return {};
  Backend& backend = loader.backend();
  HEARTH_ASSIGN(out.in, backend.input_of("attention input", out.qkv, limits_.max_tokens));
  HEARTH_ASSIGN(out.projected, backend.rows_of("queries, keys and values", limits_.max_tokens, out.qkv.out()));
  HEARTH_ASSIGN(out.attended, backend.input_of("attention output", out.out, limits_.max_tokens));
  return backend.reserve_attention(out.shape, out.out, limits_);
}

Status Decoder::load_feed_forward(WeightLoader& loader, const std::string& layer, const FeedForwardSpec& spec,
                                  FeedForward& out) {
  const int64_t hidden = config_.hidden;
  HEARTH_ASSIGN(out.norm, loader.vector(layer + "feed_forward_norm.weight", hidden));
  if (spec.experts > 0) {
    HEARTH_ASSIGN(out.router, loader.router(layer + "router", spec.experts, hidden));
    if (spec.router_bias) {
      HEARTH_ASSIGN(out.router_bias, loader.vector(layer + "router.bias", spec.experts));
    }
    if (spec.router_correction) {
      HEARTH_ASSIGN(out.router_correction, loader.vector(layer + "router.correction.bias", spec.experts));
    }
    if (spec.shared_gate) {
      HEARTH_ASSIGN(out.shared_gate, loader.row(layer + "shared_gate.weight", hidden));
    }
    if (spec.shared_intermediate > 0) HEARTH_TRY(load_mlp(loader, layer + "shared.", spec.shared_intermediate, out));
    HEARTH_ASSIGN(out.experts, loader.experts(layer + "experts.", spec.experts, experts_here(spec.experts),
                                              spec.intermediate, hidden, spec.expert_bias));
    return loader.checking() ? Status() : reserve_experts(loader.backend(), spec, out);
  }
  return load_mlp(loader, layer, spec.intermediate, out);
}

Status Decoder::load_mlp(WeightLoader& loader, const std::string& prefix, int64_t intermediate, FeedForward& out) {
  HEARTH_ASSIGN(out.mlp, loader.mlp(prefix, intermediate, config_.hidden));
  if (loader.checking()) return {};
  HEARTH_ASSIGN(out.mlp_in, loader.backend().input_of("MLP input", out.mlp.gate_up, limits_.max_tokens));
  return loader.backend().reserve_mlp(out.mlp, limits_.max_tokens);
}

Status Decoder::reserve_experts(Backend& backend, const FeedForwardSpec& spec, FeedForward& out) {
  const int64_t n = limits_.max_tokens, top_k = spec.experts_per_token;
  HEARTH_ASSIGN(out.experts_in, backend.rows_of("MoE input", n, config_.hidden));
  HEARTH_ASSIGN(out.experts_out,
                backend.rows_of("expert output", backend.expert_rows(n, top_k, spec.experts), config_.hidden));
  HEARTH_TRY(backend.reserve_experts(out.experts, n, top_k));
  if (!routing_.rows) {
    HEARTH_ASSIGN(routing_.experts, backend.allocate("routing", DType::kI32, {n, top_k}));
    HEARTH_ASSIGN(routing_.weights, backend.allocate("routing", DType::kF32, {n, top_k}));
    HEARTH_ASSIGN(routing_.rows, backend.allocate("routing", DType::kI32, {n, top_k}));
    HEARTH_ASSIGN(routing_.starts, backend.allocate("routing", DType::kI32, {spec.experts}));
    HEARTH_ASSIGN(routing_.ends, backend.allocate("routing", DType::kI32, {spec.experts}));
  }
  if (spec.shared_gate && !routing_.shared_weights) {
    HEARTH_ASSIGN(routing_.shared_weights, backend.allocate("routing", DType::kF32, {n}));
  }
  HEARTH_CHECK(routing_.rows.dim(1) == top_k && routing_.starts.dim(0) == spec.experts);
  if (expert_parallel_ && !shard_.whole()) routing_.here = experts_here(spec.experts);
  return {};
}

void Decoder::forward(Ops& ops, const Batch& batch, const KvCache& cache, Tensor logits) {
  const float epsilon = config_.rms_epsilon;
  ops.begin({&batch, shapes_});
  Stream stream{residual_.rows(0, batch.num_tokens), {}};
  ops.embed({batch.token_ids, batch.previous_tokens, table_, stream.residual, batch.true_tokens()});
  Routing routing;
  for (size_t i = 0; i < layers_.size(); ++i) {
    attend(ops, batch, layers_[i].attention, cache[i], stream);
    const bool last = i + 1 == layers_.size();
    const Rows rows = last ? Rows{batch.num_logits, batch.true_logits(), batch.logit_rows}
                           : Rows{batch.num_tokens, batch.true_tokens(), {}};
    if (rows.count == 0) return;
    feed_forward(ops, rows, i, routing, stream);
  }
  const Activation in = head_in_.rows(batch.num_logits);
  norm(ops, stream, {{}, {}, norm_, epsilon, in, {}, batch.true_logits()});
  if (shard_.whole()) return ops.linear({in, &head_, logits, batch.true_logits()});
  const Tensor part{logits_.data, DType::kF32, {batch.num_logits, head_.out()}};
  ops.linear({in, &head_, part, batch.true_logits()});
  ops.all_gather({part, logits, batch.true_logits()});
}

void Decoder::attend(Ops& ops, const Batch& batch, const Attention& a, const KvCacheLayer& cache,
                     Stream& stream) const {
  const int64_t n = batch.num_tokens;
  const AttentionShape& shape = a.shape;
  const Activation in = a.in.rows(n), attended = a.attended.rows(n);
  const Tensor qkv = a.projected.rows(0, n), num_rows = batch.true_tokens(), delta = delta_.rows(0, n);
  norm(ops, stream, {{}, {}, a.norm, config_.rms_epsilon, in, {}, num_rows});
  ops.linear({in, &a.qkv, qkv, num_rows});
  ops.rope_append_kv({qkv, batch.positions, batch.slots, cos_sin_, shape.heads, shape.kv_heads, shape.head_dim, cache,
                      a.k_scale, a.v_scale, num_rows, a.qk_norm});
  ops.attention({qkv, &batch, shape, a.scale, cache, attended, a.out.input_factor, a.sinks});
  ops.linear({attended, &a.out, delta, num_rows});
  stream = {stream.residual, delta};
  sum_over_ranks(n, num_rows, stream);
}

// The stream has `rows` alone from then on.
void Decoder::feed_forward(Ops& ops, const Rows& rows, size_t layer, Routing& routing, Stream& stream) const {
  const FeedForward& f = layers_[layer].feed_forward;
  const int64_t n = rows.count;
  // Unquantized for experts: the router reads 16 bit, and what is gathered is quantized on the way.
  const Activation in = f.has_mlp() ? f.mlp_in.rows(n) : Activation{};
  const Tensor in_act = f.has_experts() ? f.experts_in.rows(0, n) : Tensor{};
  const Tensor gathered = rows.tokens ? last_residual_.rows(0, n) : Tensor{};
  norm(ops, stream, {{}, {}, f.norm, config_.rms_epsilon, in, in_act, rows.num_rows, nullptr, rows.tokens, gathered});
  if (gathered) stream.residual = gathered;
  const Tensor mlp_out = f.has_mlp() ? delta_.rows(0, n) : Tensor{};
  if (f.has_mlp()) ops.mlp({in, &f.mlp, mlp_out, rows.num_rows});
  if (!f.has_experts()) {
    stream.delta = mlp_out;
    return sum_over_ranks(n, rows.num_rows, stream);
  }
  routing = routing_;
  for (Tensor* per_token : {&routing.experts, &routing.weights, &routing.rows}) *per_token = per_token->rows(0, n);
  routing.shared = mlp_out;
  if (!f.shared_gate) routing.shared_weights = {};
  const FeedForwardSpec& spec = config_.layers[layer].feed_forward;
  ops.route(
      {in_act, f.router, rows.num_rows, spec.scoring, routing, f.router_bias, f.router_correction, f.shared_gate});
  ops.experts({in_act, rows.num_rows, &routing, &f.experts, f.experts_out, spec.swiglu});
  stream = {stream.residual, f.experts_out, &routing};
  sum_over_ranks(n, rows.num_rows, stream);
}

void Decoder::sum_over_ranks(int64_t rows, const Tensor& num_rows, Stream& stream) const {
  if (shard_.whole()) return;
  const Tensor sum = delta_.rows(0, rows);
  stream = {stream.residual, sum, nullptr, AllReduceArgs{stream.delta, stream.routing, sum, num_rows}};
}

void Decoder::norm(Ops& ops, const Stream& stream, NormArgs args) {
  args.residual = stream.residual;
  args.delta = stream.delta;
  args.routing = stream.routing;
  stream.sum ? ops.all_reduce_norm(*stream.sum, args) : ops.norm(args);
}

}  // namespace hearth
