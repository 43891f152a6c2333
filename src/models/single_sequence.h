// SingleSequence: one sequence of tokens run through a model without an engine, in chunks of the caller's choice. For
// perplexity and for tests of models; the server's runner is in engine/.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/model.h"

namespace hearth {

class SingleSequence {
 public:
  // `max_tokens` and `max_logits` are those of the ModelOptions that the model was loaded with. `ops`: in place of the
  // backend's.
  static Result<SingleSequence> create(Backend& backend, Model& model, int64_t max_len, int64_t max_tokens,
                                       int64_t max_logits, Ops* ops = nullptr);

  // Appends tokens in one step: as the prompt's, or as generated ones. Logits are wanted for the last `num_logits` of
  // them and lie on the device until the next step.
  void append(std::span<const int32_t> tokens, bool prompt, int64_t num_logits);
  Tensor logits() const { return logits_.rows(0, num_logits_); }  // f32 [num_logits, vocab]
  std::vector<float> download_logits() const;
  void clear() { length_ = prompt_length_ = 0; }
  int64_t length() const { return length_; }
  int64_t max_len() const { return max_len_; }

 private:
  SingleSequence(Backend& backend, Model& model, Ops* ops)
      : backend_(&backend), ops_(ops != nullptr ? ops : &backend.ops()), model_(&model) {}
  Tensor upload(const Tensor& device, std::span<const int32_t> values);

  Backend* backend_;
  Ops* ops_;
  Model* model_;
  int64_t max_len_ = 0, length_ = 0, prompt_length_ = 0, num_logits_ = 0;
  KvCache cache_;
  Batch buffers_;  // of the largest step
  Tensor logits_;
};

}  // namespace hearth
