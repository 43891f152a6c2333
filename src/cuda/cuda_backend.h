// The CUDA backend: one Hopper GPU's memory, one stream, weights in the layouts of grouped_gemm, and steps as captured
// graphs.
#pragma once

#include <memory>
#include <vector>

#include "base/clock.h"
#include "ops/backend.h"

namespace hearth {

// `act` is f16 or bf16. kUnavailable where hopper_gpu() (cuda/device.h) finds none.
Result<std::unique_ptr<Backend>> make_cuda_backend(DType act, int device = 0);

// The ranks of one model.
struct CudaRanks {
  int count = 1;
  int first_device = 0;                       // and those behind it, a rank each
  bool one_gpu = false;                       // or all on the first, each with its share of the multiprocessors
  Duration limit = std::chrono::seconds(10);  // of a rank's wait for the others in a sum
};
Result<std::vector<std::unique_ptr<Backend>>> make_cuda_ranks(DType act, const CudaRanks& ranks);

}  // namespace hearth
