// Random weights made on the device: what `--load-format dummy` loads. Normal, never all zeros, the same for a seed.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "tensor/tensor.h"

namespace hearth::cuda {

// Fills bf16, f16, f32 or e4m3 with values of the given standard deviation (e4m3 saturates).
void fill_random(const Tensor& out, float deviation, uint64_t seed, cudaStream_t stream);
void fill_constant(const Tensor& out, float value, cudaStream_t stream);  // f32

}  // namespace hearth::cuda
