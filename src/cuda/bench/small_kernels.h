// Benchmarks of the small kernels at Mixtral 8x7B's shapes, each against the bytes it must move.
#pragma once

#include <vector>

#include "cuda/bench/rows.h"

namespace hearth::cuda {

std::vector<BenchRow> bench_small_kernels(const Ceilings& ceilings);

}  // namespace hearth::cuda
