// Rows of the sums over ranks, on shares of one GPU: everything but the way between GPUs.
#pragma once

#include <vector>

#include "base/status.h"
#include "cuda/bench/rows.h"

namespace hearth::cuda {

Result<std::vector<BenchRow>> bench_exchange();

}  // namespace hearth::cuda
