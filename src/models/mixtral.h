// Mixtral: Llama's attention, and a router that sends each token to a few of the layer's experts. Source: Jiang et al.
// 2024.
#pragma once

#include <vector>

#include "models/layers.h"

namespace hearth {

class Mixtral final : public Model {
 public:
  Mixtral(ModelConfig config, const ModelOptions& options, DType act);
  Status load(WeightLoader& loader);

  std::string architecture() const override { return "mixtral"; }
  int64_t vocab_size() const override { return config_.vocab; }
  int64_t max_model_len() const override { return options_.max_model_len; }
  KvSpec kv_spec() const override { return kv_spec_of(config_, options_, act_); }
  int64_t max_prompt_blocks() const override { return shared_.max_prompt_blocks(); }
  void forward(Ops& ops, const Batch& batch, const KvCache& cache, Tensor logits) override;

 private:
  struct Layer {
    AttentionBlock attention;
    Tensor norm;
    Tensor router;  // act or f32 [experts, hidden]
    ExpertWeights experts;
  };
  Status reserve(Backend& backend);
  Routing routing(int64_t num_tokens) const;

  const ModelConfig config_;
  const ModelOptions options_;
  const DType act_;
  Embedding embedding_;
  AttentionShared shared_;
  Tensor normed_;    // act [max_tokens, hidden]
  Routing routing_;  // of max_tokens
  int64_t expert_rows_ = 0;
  ActivationBuffer gathered_;        // [expert_rows, hidden]
  IntermediateBuffer intermediate_;  // [expert_rows, intermediate]
  Tensor expert_out_;                // act [expert_rows, hidden]
  std::vector<Layer> layers_;
  Head head_;
};

}  // namespace hearth
