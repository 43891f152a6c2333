// Benchmarks of grouped_gemm: Mixtral 8x7B's expert products and its dense layers.
#pragma once

#include <optional>
#include <vector>

#include "cuda/bench/rows.h"
#include "cuda/grouped_gemm.h"

namespace hearth::cuda {

struct ProductCase {
  std::string name;  // "w13"
  DType dtype;
  Epilogue epilogue;
  int64_t groups, n, k;
  std::vector<int> group_rows;
  WeightScales weight_scales;
  bool row_scales = false;  // of x
  int top_k = 2;            // experts a token chooses
  bool static_out = false;  // SwiGLU with row_scales: to e4m3, whose scale the weights hold
};

// Rows an expert gets of `tokens` tokens that each choose `top_k` different ones of `experts`, evenly at random.
std::vector<int> random_routing(int tokens, int experts, int top_k, uint32_t seed);

// The same where every token chooses the first expert, nobody the last two, and the second choices are evenly random.
std::vector<int> skewed_routing(int tokens, int experts, uint32_t seed);

// Times one product on random data with weights rotated beyond L2; the tile is the library's choice if not given.
// Refused where the product cannot run with it. `sustain`: see time_calls.
Result<BenchRow> bench_product(const ProductCase& c, const Ceilings& ceilings,
                               const std::optional<GroupedGemmTile>& tile = std::nullopt, double sustain = 0);

// All of docs/kernels/grouped_gemm.md's table.
std::vector<ProductCase> grouped_gemm_cases();

}  // namespace hearth::cuda
