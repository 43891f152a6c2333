// `hearth bench kernels`: every kernel's benchmark, one table on the terminal and in a JSON document.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "cuda/configs/grouped_gemm_config.h"

namespace hearth::cuda {

struct BenchKernelsOptions {
  std::vector<std::string> only;   // texts that a row's label must all have in it; labels are printed with the rows
  std::vector<std::string> tiles;  // grouped_gemm's, instead of its own choice
  bool peers = false;              // the fastest of others' kernels beside ours, where python3 has them: peers.h
  double sustain = 0;              // seconds of each product and attention before it is timed: see time_calls
};

// kUnavailable without a Hopper GPU.
Result<Json> bench_kernels(const BenchKernelsOptions& options);

// "WARPGROUPS,CLUSTER,PIECE,STAGES"; 0 stages are as many as fit.
Result<GroupedGemmTile> parse_tile(const std::string& text);

}  // namespace hearth::cuda
