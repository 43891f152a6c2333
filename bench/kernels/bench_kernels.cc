// Kernel benchmarks: prints one table, and saves it as JSON.
//   bench_kernels [--only TEXT] [--json FILE] [--tile WARPGROUPS,CLUSTER,PIECE,STAGES]...   (stages 0: what fits)
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cuda/bench/fire_attention.h"
#include "cuda/bench/grouped_gemm.h"
#include "cuda/bench/small_kernels.h"
#include "cuda/check.h"

namespace hearth::cuda {
namespace {

struct Options {
  std::vector<std::string> only;
  std::string json;
  std::vector<std::optional<GroupedGemmTile>> tiles;
};

std::optional<Options> parse(int argc, char** argv) {
  Options o;
  for (int i = 1; i < argc; ++i) {
    if (i + 1 >= argc) return std::nullopt;
    const char* value = argv[i + 1];
    if (!std::strcmp(argv[i], "--only")) {
      o.only.push_back(value);
    } else if (!std::strcmp(argv[i], "--json")) {
      o.json = value;
    } else if (!std::strcmp(argv[i], "--tile")) {
      GroupedGemmTile t{};
      if (std::sscanf(value, "%d,%d,%d,%d", &t.warpgroups, &t.cluster, &t.max_piece, &t.stages) != 4)
        return std::nullopt;
      o.tiles.push_back(t);
    } else {
      return std::nullopt;
    }
    ++i;
  }
  if (o.tiles.empty()) o.tiles.push_back(std::nullopt);
  return o;
}

int run(const Options& options) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::fprintf(stderr, "bench_kernels: no NVIDIA GPU on this machine\n");
    return 77;
  }
  cudaDeviceProp device;
  HEARTH_CUDA_CHECK(cudaGetDeviceProperties(&device, 0));
  const Ceilings ceilings = measure_ceilings();
  std::printf("%s, reads %.3f TB/s; floors at %.0f (FP8) and %.0f (16 bit) TFLOP/s\n", device.name, ceilings.read_tbs,
              ceilings.fp8_tflops, ceilings.bf16_tflops);
  nlohmann::json rows = nlohmann::json::array();
  const auto wanted = [&](const std::string& label) {
    return std::ranges::all_of(options.only, [&](const auto& text) { return label.find(text) != std::string::npos; });
  };
  const auto report = [&](const BenchRow& r, const std::optional<GroupedGemmTile>& tile) {
    std::printf("%-34s %-44s %9.1f us %7.0f TFLOP/s %6.3f TB/s %5.1f%%", r.kernel.c_str(), r.shape.c_str(), r.us,
                r.tflops, r.tbs, 100 * r.share_of_floor);
    if (tile) std::printf("  tile %d,%d,%d,%d", tile->warpgroups, tile->cluster, tile->max_piece, tile->stages);
    std::printf("\n");
    std::fflush(stdout);
    rows.push_back({{"kernel", r.kernel},
                    {"shape", r.shape},
                    {"us", r.us},
                    {"tflops", r.tflops},
                    {"tbs", r.tbs},
                    {"share_of_floor", r.share_of_floor}});
  };
  for (const ProductCase& c : grouped_gemm_cases()) {
    for (auto tile : options.tiles) {
      if (tile && tile->stages == 0) tile->stages = stages_that_fit(c.dtype, tile->warpgroups, tile->max_piece);
      const std::string label = cat(c.name, " ", dtype_name(c.dtype), c.epilogue == Epilogue::kSwiglu ? " swiglu" : "",
                                    c.row_scales ? " row" : "");
      if (wanted(label)) report(bench_product(c, ceilings, tile), tile);
    }
  }
  if (wanted("small kernels")) {
    for (const BenchRow& r : bench_small_kernels(ceilings)) report(r, {});
  }
  if (wanted("fire_attention")) {
    for (const AttentionBench& c : fire_attention_cases()) report(bench_attention(c, ceilings), {});
    report(bench_attention_plan(64, 1024), {});
  }
  if (options.json.empty()) return 0;
  std::ofstream(options.json)
      << nlohmann::json{{"gpu", device.name}, {"read_tbs", ceilings.read_tbs}, {"rows", rows}}.dump(1) << "\n";
  return 0;
}

}  // namespace
}  // namespace hearth::cuda

int main(int argc, char** argv) {
  const auto options = hearth::cuda::parse(argc, argv);
  if (!options) {
    std::fprintf(stderr,
                 "usage: bench_kernels [--only TEXT] [--json FILE] [--tile WARPGROUPS,CLUSTER,PIECE,STAGES]...\n");
    return 1;
  }
  return hearth::cuda::run(*options);
}
