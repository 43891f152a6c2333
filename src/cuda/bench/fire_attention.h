// Benchmarks of fire_attention: decode, causal prefill and both in one step at Mixtral's attention shape.
#pragma once

#include <vector>

#include "cuda/bench/rows.h"
#include "cuda/fire_attention.h"

namespace hearth::cuda {

struct AttentionBench {
  DType kv;                             // bf16 or e4m3; act is bf16
  int64_t prompts, generated, context;  // sequences with all of the context in this step, and with its last token
  int64_t heads = 32, kv_heads = 8, head_dim = 128;
};

// One layer's attention in a captured graph, its plan built before, the cache rotated beyond L2. `sustain`: see
// time_calls.
BenchRow bench_attention(const AttentionBench& c, const Ceilings& ceilings, double sustain = 0);
// The planning kernel, once a step.
BenchRow bench_attention_plan(const AttentionBench& c);

// All of the table in docs/kernels/fire_attention.md.
std::vector<AttentionBench> fire_attention_cases();

}  // namespace hearth::cuda
