// Llama and Mistral: attention and a gated MLP. Source: Touvron et al. 2023; Jiang et al. 2023 for the sliding window.
#pragma once

#include <vector>

#include "models/layers.h"

namespace hearth {

class Llama final : public Model {
 public:
  Llama(ModelConfig config, const ModelOptions& options, DType act);
  Status load(WeightLoader& loader);

  std::string architecture() const override { return "llama"; }
  int64_t vocab_size() const override { return config_.vocab; }
  int64_t max_model_len() const override { return options_.max_model_len; }
  KvSpec kv_spec() const override { return kv_spec_of(config_, options_, act_); }
  int64_t max_prompt_blocks() const override { return shared_.max_prompt_blocks(); }
  void forward(Ops& ops, const Batch& batch, const KvCache& cache, Tensor logits) override;

 private:
  struct Layer {
    AttentionBlock attention;
    Tensor norm;
    MlpWeights mlp;
  };

  const ModelConfig config_;
  const ModelOptions options_;
  const DType act_;
  Embedding embedding_;
  AttentionShared shared_;
  ActivationBuffer normed_;
  IntermediateBuffer intermediate_;
  std::vector<Layer> layers_;
  Head head_;
};

}  // namespace hearth
