// The real runner: a model on a backend.
#pragma once

#include <memory>
#include <vector>

#include "engine/runner.h"
#include "models/model.h"

namespace hearth {

struct ModelRunnerOptions {
  // Sizes of the fixed buffers. The model's ModelOptions must allow as many tokens and logits.
  int64_t max_tokens = 512;
  int64_t max_sequences = 64;
  int64_t max_logits = 128;
  int64_t max_logprobs = 20;
  int64_t max_model_len = 0;  // 0: the model's
  int64_t max_edits = 1 << 18;
  int64_t num_blocks = 0;
  // Steps are launched with the next larger of these token counts, so that a backend can capture each once; ascending,
  // the last is max_tokens. Empty: with their own.
  std::vector<int64_t> token_buckets;
};

Result<std::unique_ptr<Runner>> make_model_runner(std::shared_ptr<Backend> backend, std::shared_ptr<Model> model,
                                                  const ModelRunnerOptions& options);

}  // namespace hearth
