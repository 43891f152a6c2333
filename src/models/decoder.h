// Decoder: the one forward pass of all families: an embedding, layers of attention and a feed-forward part, and a head.
// What differs between models is data (LayerSpec). Sources: Touvron et al. 2023 (Llama), Jiang et al. 2023 (the sliding
// window) and 2024 (experts).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "models/config.h"
#include "models/model.h"
#include "models/weight_loader.h"

namespace hearth {

class Decoder final : public Model {
 public:
  Decoder(const ModelConfig& config, const ModelOptions& options, const Backend& backend);
  // Asks for every tensor by Hearth's names: embedding, norm, head, and of a layer N layers.N.attention_norm, .q, .k,
  // .v, .o, .attention.sinks, .feed_forward_norm, and .gate, .up, .down or .router, .router.correction and
  // .experts.E.gate, .up, .down, .shared.gate, .up, .down, .shared_gate.
  Status load(WeightLoader& loader);

  std::string architecture() const override { return config_.architecture; }
  int64_t vocab_size() const override { return config_.vocab; }
  int64_t max_model_len() const override { return limits_.max_model_len; }
  std::vector<KvSpec> kv_specs() const override;
  void forward(Ops& ops, const Batch& batch, const KvCache& cache, Tensor logits) override;

 private:
  struct Attention {
    AttentionShape shape;  // of this rank's heads
    float scale;           // of q.k
    Tensor norm;           // f32 [hidden]
    LinearWeight qkv, out;
    QkNormArgs qk_norm;
    Tensor sinks;             // f32 [this rank's heads], or empty
    Tensor k_scale, v_scale;  // static scales of an FP8 cache, or empty
    Activation in, attended;  // memory, as all below of max_tokens rows
    Tensor projected;         // [heads + 2 * kv_heads, head_dim] a row, this rank's
  };
  struct FeedForward {
    Tensor norm;  // f32 [hidden]
    // Dense, or of the shared expert.
    MlpWeights mlp;
    Activation mlp_in;
    // Experts.
    Tensor router;                          // act or f32 [experts, hidden]
    Tensor router_bias, router_correction;  // f32 [experts], or empty
    Tensor shared_gate;                     // f32 [hidden], or empty
    ExpertWeights experts;
    Tensor experts_in;
    Tensor experts_out;  // [expert_rows, hidden]
    bool has_experts() const { return static_cast<bool>(router); }
    bool has_mlp() const { return static_cast<bool>(mlp.down.data); }
  };
  struct Layer {
    Attention attention;
    FeedForward feed_forward;
  };
  // The residual stream: what every block reads, and adds to through the next norm (NormArgs says how).
  struct Stream {
    Tensor residual;  // act [num_tokens, hidden]
    Tensor delta;     // act [num_tokens, hidden]: the last block's output, not added yet; empty before the first
    const Routing* routing = nullptr;  // after a block of experts, whose rows `delta` has
    std::optional<AllReduceArgs> sum;  // over the ranks, that makes `delta`
  };
  // The tokens that go on behind a layer's attention: all of them, or, behind the last layer's, those whose logits are
  // wanted; of the others nothing but their keys and values is ever read.
  struct Rows {
    int64_t count = 0;
    Tensor num_rows;
    Tensor tokens;  // which of the step's, or empty: all
  };

  Status load_attention(WeightLoader& loader, const std::string& layer, const AttentionSpec& spec, Attention& out);
  Status load_feed_forward(WeightLoader& loader, const std::string& layer, const FeedForwardSpec& spec,
                           FeedForward& out);
  Status load_mlp(WeightLoader& loader, const std::string& prefix, int64_t intermediate, FeedForward& out);
  Status reserve_experts(Backend& backend, const FeedForwardSpec& spec, FeedForward& out);
  Status load_rope(Backend& backend);

  void attend(Ops& ops, const Batch& batch, const Attention& a, const KvCacheLayer& cache, Stream& stream) const;
  void feed_forward(Ops& ops, const Rows& rows, size_t layer, Routing& routing, Stream& stream) const;
  // Of a layer's experts.
  Range experts_here(int64_t experts) const { return expert_parallel_ ? shard_.part(experts) : Range{0, experts}; }
  // Behind a block of which every rank has a part: the next norm adds them up.
  void sum_over_ranks(int64_t rows, const Tensor& num_rows, Stream& stream) const;
  // Of the stream with what the last block adds to it.
  static void norm(Ops& ops, const Stream& stream, NormArgs args);

  const ModelConfig config_;
  const Shard shard_;
  const bool expert_parallel_;
  const StepLimits limits_;
  std::vector<AttentionShape> shapes_;  // the different ones
  std::vector<Layer> layers_;
  Tensor table_, norm_;
  LinearWeight head_;
  Tensor cos_sin_;  // f32 [max_model_len, rotary]
  Tensor residual_, delta_;
  Tensor last_residual_;  // act [max_logits, hidden]
  Activation head_in_;    // of max_logits rows
  Tensor logits_;         // f32 [max_logits * this rank's part of the vocabulary]; empty where it has all
  Routing routing_;       // of max_tokens
};

}  // namespace hearth
