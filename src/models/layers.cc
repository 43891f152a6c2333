// Loading and running the shared blocks.
#include "models/layers.h"

#include <algorithm>
#include <cmath>

namespace hearth {
namespace {

// For 64K tokens of prompts and what they follow in a step, or one prompt as long as may be; less where no step can
// have so much, each of its sequences having a token and a row of logits.
int64_t most_prompt_blocks(const ModelOptions& options) {
  constexpr int64_t kBlocks = (64 << 10) / kBlockSize;
  const int64_t longest = ceil_div(options.max_model_len, kBlockSize);
  return std::min(std::max(longest, kBlocks), longest * std::min(options.max_tokens, options.max_logits));
}

}  // namespace

Status ActivationBuffer::reserve(Backend& backend, std::string_view what, InputType type, int64_t max_rows,
                                 int64_t dim) {
  for (const auto& kind : kinds_) {
    if (kind.first == type) return {};
  }
  HEARTH_ASSIGN(Activation memory, backend.allocate_activation(what, type, max_rows, dim));
  kinds_.emplace_back(type, memory);
  return {};
}

Activation ActivationBuffer::first(InputType type, int64_t rows) const {
  const auto mine = std::ranges::find(kinds_, type, &std::pair<InputType, Activation>::first);
  HEARTH_CHECK(mine != kinds_.end());
  return {mine->second.data.rows(0, rows), mine->second.scales};
}

Status IntermediateBuffer::reserve(Backend& backend, std::string_view what, InputType type, int64_t max_rows,
                                   int64_t dim) {
  if (type.per_token() && !act_) {
    HEARTH_ASSIGN(act_, backend.allocate(what, backend.act(), {max_rows, dim}));
  }
  return typed_.reserve(backend, what, type, max_rows, dim);
}

Rows rows_behind_attention(const Batch& batch, bool last_layer) {
  if (last_layer) return {batch.num_logits, batch.true_logits(), batch.logit_rows};
  return {batch.num_tokens, batch.true_tokens(), {}};
}

Status Embedding::load(WeightLoader& loader, const ModelConfig& config, const ModelOptions& options) {
  HEARTH_ASSIGN(table_, loader.table("model.embed_tokens.weight", config.vocab, config.hidden));
  if (loader.checking()) return {};
  Backend& backend = loader.backend();
  HEARTH_ASSIGN(residual_, backend.allocate("residual stream", backend.act(), {options.max_tokens, config.hidden}));
  HEARTH_ASSIGN(delta_, backend.allocate("block output", backend.act(), {options.max_tokens, config.hidden}));
  HEARTH_ASSIGN(gathered_,
                backend.allocate("residual stream's end", backend.act(), {options.max_logits, config.hidden}));
  return {};
}

Stream Embedding::forward(Ops& ops, const Batch& batch) const {
  const Tensor residual = residual_.rows(0, batch.num_tokens);
  ops.embed({batch.token_ids, batch.previous_tokens, table_, residual, batch.true_tokens()});
  return {residual, {}};
}

KvSpec kv_spec_of(const ModelConfig& config, const ModelOptions& options, DType act) {
  return {config.layers, config.kv_heads, config.head_dim, options.fp8_kv_cache ? DType::kE4M3 : act};
}

Status AttentionShared::load(WeightLoader& loader, const ModelConfig& config, const ModelOptions& options) {
  if (loader.checking()) return {};
  Backend& backend = loader.backend();
  const int64_t length = options.max_model_len;
  std::vector<float> table = rope_table(config.rope, config.head_dim, length);
  HEARTH_ASSIGN(cos_sin,
                backend.load("rotary table", {table.data(), DType::kF32, {length, config.head_dim}}, DType::kF32));
  const int64_t channels = (config.heads + 2 * config.kv_heads) * config.head_dim;
  HEARTH_ASSIGN(qkv, backend.allocate("queries, keys and values", backend.act(), {options.max_tokens, channels}));
  if (!options.fp8_kv_cache || !backend.widens_prompts()) return {};
  const Shape pages{most_prompt_blocks(options), config.kv_heads, kBlockSize, config.head_dim};
  HEARTH_ASSIGN(wide_k, backend.allocate("keys of prompts", backend.act(), pages));
  HEARTH_ASSIGN(wide_v, backend.allocate("values of prompts", backend.act(), pages));
  return {};
}

Status AttentionBlock::load(WeightLoader& loader, const std::string& prefix, const ModelConfig& config,
                            const ModelOptions& options, AttentionShared& shared) {
  const std::string attention = prefix + "self_attn.";
  const int64_t q = config.heads * config.head_dim, kv = config.kv_heads * config.head_dim;
  HEARTH_ASSIGN(norm_, loader.vector(prefix + "input_layernorm.weight", config.hidden));
  HEARTH_ASSIGN(qkv_, loader.linear({{attention + "q_proj", q}, {attention + "k_proj", kv}, {attention + "v_proj", kv}},
                                    config.hidden, config.attention_bias));
  HEARTH_ASSIGN(out_, loader.linear({{attention + "o_proj", config.hidden}}, q, config.attention_bias,
                                    /*scales_input=*/true));
  HEARTH_ASSIGN(const Tensor k_scale, loader.kv_scale(attention, 'k', config.kv_heads));
  HEARTH_ASSIGN(const Tensor v_scale, loader.kv_scale(attention, 'v', config.kv_heads));
  if (loader.checking()) return {};
  if (options.fp8_kv_cache) {
    k_scale_ = k_scale;
    v_scale_ = v_scale;
  }
  Backend& backend = loader.backend();
  HEARTH_TRY(shared.normed.reserve(backend, "attention input", qkv_.input, options.max_tokens, config.hidden));
  return shared.attended.reserve(backend, "attention output", out_.input, options.max_tokens, q);
}

void AttentionBlock::forward(Ops& ops, const Batch& batch, const ModelConfig& config, const AttentionShared& shared,
                             const KvCacheLayer& cache, Stream& stream, Tensor delta) const {
  const int64_t n = batch.num_tokens;
  const Activation normed = shared.normed.first(qkv_.input, n);
  const Activation attended = shared.attended.first(out_.input, n);
  const Tensor qkv = shared.qkv.rows(0, n);
  const float scale = 1.0f / std::sqrt(static_cast<float>(config.head_dim));
  ops.norm({stream.residual, stream.delta, norm_, config.rms_epsilon, normed, {}, batch.true_tokens(), stream.routing});
  ops.linear({normed, &qkv_, qkv, batch.true_tokens()});
  ops.rope_append_kv({qkv, batch.positions, batch.slots, shared.cos_sin, config.heads, config.kv_heads, config.head_dim,
                      cache, k_scale_, v_scale_, batch.true_tokens()});
  ops.attention({qkv, &batch, config.heads, config.kv_heads, config.head_dim, scale, config.window, cache, attended,
                 out_.input_factor, shared.wide_k, shared.wide_v});
  ops.linear({attended, &out_, delta, batch.true_tokens()});
  stream = {stream.residual, delta};
}

void norm_behind_attention(Ops& ops, const ModelConfig& config, const Embedding& embedding, const Tensor& weight,
                           const Rows& rows, const Activation& out, const Tensor& out_act, Stream& stream) {
  const Tensor gathered = embedding.gathered(rows);
  ops.norm({stream.residual, stream.delta, weight, config.rms_epsilon, out, out_act, rows.num_rows, nullptr,
            rows.tokens, gathered});
  if (gathered) stream.residual = gathered;
}

Status Head::load(WeightLoader& loader, const ModelConfig& config, int64_t max_logits) {
  HEARTH_ASSIGN(norm_, loader.vector("model.norm.weight", config.hidden));
  // Some files of a tied model hold the head all the same; it is the embedding.
  if (config.tied_head) loader.ignore("lm_head.weight");
  HEARTH_ASSIGN(weight_, loader.head(config.tied_head ? "model.embed_tokens" : "lm_head", config.vocab, config.hidden));
  if (loader.checking()) return {};
  Backend& backend = loader.backend();
  HEARTH_ASSIGN(normed_, backend.allocate("head input", backend.act(), {max_logits, config.hidden}));
  return {};
}

void Head::forward(Ops& ops, const Batch& batch, const ModelConfig& config, const Stream& stream, Tensor logits) const {
  const Tensor normed = normed_.rows(0, batch.num_logits);
  ops.norm({stream.residual,
            stream.delta,
            norm_,
            config.rms_epsilon,
            {normed, {}},
            {},
            batch.true_logits(),
            stream.routing});
  ops.linear({{normed, {}}, &weight_, logits, batch.true_logits()});
}

}  // namespace hearth
