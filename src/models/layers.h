// What Llama and Mixtral share: the embedding, the attention block, the head, and the buffers between them.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "models/config.h"
#include "models/model.h"
#include "models/weight_loader.h"

namespace hearth {

// A buffer of [max_rows, dim] in each of the types that some linear layer wants to read.
class ActivationBuffer {
 public:
  Status reserve(Backend& backend, std::string_view what, InputType type, int64_t max_rows, int64_t dim);
  // The first `rows` rows; reserve() was called with this type.
  Activation first(InputType type, int64_t rows) const;

 private:
  std::vector<std::pair<InputType, Activation>> kinds_;
};

// Scratch for the product of gate and up.
class IntermediateBuffer {
 public:
  Status reserve(Backend& backend, std::string_view what, InputType type, int64_t max_rows, int64_t dim);
  Activation first(InputType type, int64_t rows) const { return typed_.first(type, rows); }
  Tensor first_act(InputType type, int64_t rows) const { return type.per_token() ? act_.rows(0, rows) : Tensor{}; }

 private:
  ActivationBuffer typed_;
  Tensor act_;
};

// The residual stream: what every block reads, and adds to through the next norm (NormArgs says how).
struct Stream {
  Tensor residual;  // act [num_tokens, hidden]
  Tensor delta;     // act [num_tokens, hidden]: the last block's output, not added yet; empty before the first
  const Routing* routing = nullptr;  // after a block of experts, whose rows `delta` has: act [expert_rows, hidden]
};

// The tokens that go on behind a layer's attention: all of them, or, behind the last layer's, those whose logits are
// wanted; of the others nothing but their keys and values is ever read.
struct Rows {
  int64_t count = 0;
  Tensor num_rows;
  Tensor tokens;  // which of the step's, or empty: all
};
Rows rows_behind_attention(const Batch& batch, bool last_layer);

// Token ids to the residual stream. Owns the stream's memory.
class Embedding {
 public:
  Status load(WeightLoader& loader, const ModelConfig& config, const ModelOptions& options);
  Stream forward(Ops& ops, const Batch& batch) const;
  // The memory of Stream::delta for this many tokens.
  Tensor delta(int64_t num_tokens) const { return delta_.rows(0, num_tokens); }
  // Of Stream::residual once only `rows` go on; empty where all do.
  Tensor gathered(const Rows& rows) const { return rows.tokens ? gathered_.rows(0, rows.count) : Tensor{}; }

 private:
  Tensor table_;
  Tensor residual_, delta_, gathered_;
};

KvSpec kv_spec_of(const ModelConfig& config, const ModelOptions& options, DType act);

// What the attention blocks of all layers share.
struct AttentionShared {
  Tensor cos_sin;  // f32 [max_model_len, head_dim]
  Tensor qkv;      // act [max_tokens, (heads + 2 * kv_heads) * head_dim]
  ActivationBuffer normed, attended;
  Tensor wide_k, wide_v;  // act [max_prompt_blocks, kv_heads, 64, head_dim], or empty
  Status load(WeightLoader& loader, const ModelConfig& config, const ModelOptions& options);
  int64_t max_prompt_blocks() const { return wide_k ? wide_k.dim(0) : 0; }
};

// norm, q k v, rope, attention, output projection.
class AttentionBlock {
 public:
  Status load(WeightLoader& loader, const std::string& prefix, const ModelConfig& config, const ModelOptions& options,
              AttentionShared& shared);
  void forward(Ops& ops, const Batch& batch, const ModelConfig& config, const AttentionShared& shared,
               const KvCacheLayer& cache, Stream& stream, Tensor delta) const;

 private:
  Tensor norm_;
  LinearWeight qkv_, out_;
  Tensor k_scale_, v_scale_;  // static KV scales, or empty
};

// The norm between a layer's attention and what follows it, of `rows`, which are all that the stream has from then on.
void norm_behind_attention(Ops& ops, const ModelConfig& config, const Embedding& embedding, const Tensor& weight,
                           const Rows& rows, const Activation& out, const Tensor& out_act, Stream& stream);

// Final norm and output projection. The stream has the rows whose logits are wanted.
class Head {
 public:
  Status load(WeightLoader& loader, const ModelConfig& config, int64_t max_logits);
  void forward(Ops& ops, const Batch& batch, const ModelConfig& config, const Stream& stream, Tensor logits) const;

 private:
  Tensor norm_;
  LinearWeight weight_;
  Tensor normed_;  // act [max_logits, hidden]
};

}  // namespace hearth
