// What the kernels take: their limits as constants, and the check of a model's shape and a step's size against them.
#pragma once

#include "cuda/fire_attention.h"
#include "ops/backend.h"

namespace hearth::cuda {

constexpr int64_t kMostLogprobs = 128;           // sample
constexpr int64_t kMostVocab = 409'600;          // sample: a cluster's shared memory holds a row
constexpr int64_t kMostExperts = 512;            // route
constexpr int64_t kMostExpertsPerToken = 32;     // route, dispatch, norm: a lane each
constexpr int64_t kMostHidden = 16'384;          // norm: a block holds a row
constexpr int64_t kMostQuantized = 32'768;       // quantize: a block holds a row
constexpr int64_t kMostNormedTogether = 16'384;  // rope_append_kv: a block holds a token
constexpr int64_t kMostRows = int64_t{1} << 18;  // of a dense product

// The sizes that attention is planned for: rounded up, so that models of one shape mostly share memory.
FireAttentionShape attention_shape(DType act, const AttentionShape& shape, const StepLimits& step);

// kUnimplemented, with the limit and what to change, where a kernel would not take the model or the step.
Status check_limits(DType act, const ModelShape& model, const StepLimits& step);

}  // namespace hearth::cuda
