// The pretend model of the simulation: instead of logits a hash of everything that real ones depend on, so that a
// sequence computed from wrong tokens, wrong blocks or with wrong sampling parameters gives other tokens.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "ops/ops.h"

namespace hearth {

struct FakeModel {
  int32_t vocab_size = 64;
  int32_t nan_token = -1;    // a sequence with this token has NaN logits from there on
  bool paths_differ = true;  // whether prompt and generated tokens go through different sums, as in a real model

  struct Edit {
    int32_t token, count;
    float bias;
  };
  struct Output {
    int32_t token;
    float logprob;
    int32_t rank;
  };

  // The state after one more token; kStart is the state before the first.
  static constexpr uint64_t kStart = 0x243F6A8885A308D3ull;
  static constexpr uint64_t kNan = 0;
  uint64_t next_state(uint64_t state, int32_t token, int64_t position, bool generated) const;

  // What sampling a row whose logits are `state` gives.
  Output sample(uint64_t state, const SamplingRow& row, std::span<const Edit> edits,
                const std::vector<int32_t>* allowed = nullptr) const;
  // The i-th most likely token where `first` is the most likely.
  int32_t top_token(int32_t first, int32_t i) const { return (first + i) % vocab_size; }
};

}  // namespace hearth
