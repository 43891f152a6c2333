// The CUDA backend: one Hopper GPU's memory, one stream, weights in the layouts of grouped_gemm, and steps as captured
// graphs.
#pragma once

#include <memory>

#include "ops/backend.h"

namespace hearth {

// `act` is f16 or bf16. kUnavailable where hopper_gpu() (cuda/device.h) finds none.
Result<std::unique_ptr<Backend>> make_cuda_backend(DType act, int device = 0);

}  // namespace hearth
