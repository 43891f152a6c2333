// Model: weights on a backend and the ops of one step. Knows nothing of requests, scheduling or where its tensors live.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ops/backend.h"

namespace hearth {

// What a cache block of a layer holds.
struct KvSpec {
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  DType dtype = DType::kF32;  // act, or kE4M3
};

// Every layer's pages, allocated by the runner.
using KvCache = std::vector<KvCacheLayer>;

struct ModelOptions {
  LinearFormat format = LinearFormat::kAsStored;
  bool fp8_kv_cache = false;
  int64_t max_tokens = 512;       // most tokens in a step: sizes the activations
  int64_t max_logits = 64;        // most rows of logits in a step
  int64_t max_sequences = 1;      // most sequences in a step
  int64_t max_logprobs = 0;       // most likely tokens that a row may ask for
  int64_t max_model_len = 0;      // 0: the checkpoint's
  int64_t experts_per_token = 0;  // 0: the checkpoint's
  bool expert_parallel = false;   // ranks share experts as whole ones, not each one's columns
  DType kv_dtype(DType act) const { return fp8_kv_cache ? DType::kE4M3 : act; }
  StepLimits limits() const { return {max_tokens, max_sequences, max_logits, max_logprobs, max_model_len}; }
};

class Model {
 public:
  virtual ~Model() = default;
  virtual std::string architecture() const = 0;  // "llama", "mixtral", ...
  virtual int64_t vocab_size() const = 0;
  virtual int64_t max_model_len() const = 0;
  virtual std::vector<KvSpec> kv_specs() const = 0;  // of each layer
  // Runs the step and leaves f32 logits [batch.num_logits, vocab] in `logits`.
  virtual void forward(Ops& ops, const Batch& batch, const KvCache& cache, Tensor logits) = 0;
};

}  // namespace hearth
