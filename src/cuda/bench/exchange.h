// Rows of the sums over ranks: on as many GPUs, or on shares of one, where nothing goes between GPUs.
#pragma once

#include <vector>

#include "base/status.h"
#include "cuda/bench/rows.h"

namespace hearth::cuda {

Result<std::vector<BenchRow>> bench_exchange();

}  // namespace hearth::cuda
