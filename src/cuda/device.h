// The GPU that Hearth runs on.
#pragma once

#include <cuda_runtime_api.h>

#include "base/status.h"

namespace hearth::cuda {

// To be asked before anything else of CUDA. kUnavailable, with what is missing, where there is no driver, an older one
// than this build needs, no GPU, or one that is no Hopper; kInvalidArgument where there are fewer GPUs.
Result<cudaDeviceProp> hopper_gpu(int device = 0);

// How many GPUs are there, of any kind.
Result<int> gpus();

}  // namespace hearth::cuda
