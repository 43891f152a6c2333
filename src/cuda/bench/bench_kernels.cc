// What is measured, in which order, and how a row is shown.
#include "cuda/bench/bench_kernels.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cuda/bench/exchange.h"
#include "cuda/bench/fire_attention.h"
#include "cuda/bench/grouped_gemm.h"
#include "cuda/bench/peers.h"
#include "cuda/bench/small_kernels.h"
#include "cuda/device.h"
#include "cuda/kernels/grouped_gemm_schedule.h"

namespace hearth::cuda {
namespace {

std::string label_of(const ProductCase& c) {
  return cat("grouped_gemm ", c.name, " ", dtype_name(c.dtype), c.epilogue == Epilogue::kSwiglu ? " swiglu" : "",
             c.row_scales ? " row" : "", c.static_out ? " static" : "");
}

// Nobody has SwiGLU in a product. Of FP8, one kind is enough to compare with.
bool has_peer(const ProductCase& c) {
  return c.epilogue == Epilogue::kStore && c.weight_scales != WeightScales::kBlock;
}

Json peer_case(const ProductCase& c) {
  return {{"dtype", dtype_name(c.dtype)}, {"groups", c.groups}, {"n", c.n}, {"k", c.k}, {"rows", c.group_rows}};
}

Json peer_case(const AttentionBench& c) {
  return {{"kv", dtype_name(c.kv)}, {"prompts", c.prompts},   {"generated", c.generated}, {"context", c.context},
          {"heads", c.heads},       {"kv_heads", c.kv_heads}, {"head_dim", c.head_dim}};
}

class Table {
 public:
  void add(const BenchRow& r, const std::optional<GroupedGemmTile>& tile, const Peer* peer) {
    std::printf("%-34s %-44s %9.1f us %7.0f TFLOP/s %6.3f TB/s %5.1f%%", r.kernel.c_str(), r.shape.c_str(), r.us,
                r.tflops, r.tbs, 100 * r.share_of_floor);
    Json row = {{"kernel", r.kernel}, {"shape", r.shape}, {"us", r.us},
                {"tflops", r.tflops}, {"tbs", r.tbs},     {"share_of_floor", r.share_of_floor}};
    if (r.ghz > 0) {
      std::printf("  %.2f GHz", r.ghz);
      row["ghz"] = r.ghz;
    }
    if (tile) {
      const std::string name = cat(tile->warpgroups, ",", tile->cluster, ",", tile->max_piece, ",", tile->stages);
      std::printf("  tile %s", name.c_str());
      row["tile"] = name;
    }
    if (peer) {
      std::printf("  %.2f of %s's time", r.us / peer->us, peer->name.c_str());
      row["peer"] = peer->name;
      row["peer_us"] = peer->us;
    }
    std::printf("\n");
    std::fflush(stdout);
    rows_.push_back(std::move(row));
  }
  Json take() { return std::move(rows_); }

 private:
  Json rows_ = Json::array();
};

}  // namespace

Result<GroupedGemmTile> parse_tile(const std::string& text) {
  GroupedGemmTile t{};
  int end = 0;
  const int read = std::sscanf(text.c_str(), "%d,%d,%d,%d%n", &t.warpgroups, &t.cluster, &t.max_piece, &t.stages, &end);
  GroupedGemmTile with_stages = t;
  if (t.stages == 0) with_stages.stages = 2;
  if (read != 4 || end != std::ssize(text) || !can_run(with_stages)) {
    return invalid("--tile: expected WARPGROUPS (1, 2), CLUSTER (1, 2), PIECE (a multiple of ", kPieceStep, " to ",
                   kNarrowPiece, " of one warpgroup, ", kTokenMaps * kPieceStep, " of one CTA, else ", kMaxPiece,
                   "), STAGES (0, 2 to ", kMaxStages, "), with commas between them");
  }
  return t;
}

Result<Json> bench_kernels(const BenchKernelsOptions& options) {
  std::vector<std::optional<GroupedGemmTile>> tiles;
  for (const std::string& text : options.tiles) {
    HEARTH_ASSIGN(tiles.emplace_back(), parse_tile(text));
  }
  if (tiles.empty()) tiles.emplace_back();
  HEARTH_ASSIGN(const cudaDeviceProp device, hopper_gpu());

  const auto wanted = [&](const std::string& label) {
    return std::ranges::all_of(options.only, [&](const auto& text) { return label.find(text) != std::string::npos; });
  };
  std::vector<ProductCase> products;
  Json peer_cases = Json::array();
  for (const ProductCase& c : grouped_gemm_cases()) {
    if (!wanted(label_of(c))) continue;
    products.push_back(c);
    if (has_peer(c)) peer_cases.push_back(peer_case(c));
  }
  std::vector<AttentionBench> attention;
  if (wanted("fire_attention")) attention = fire_attention_cases();
  for (const AttentionBench& c : attention) peer_cases.push_back(peer_case(c));
  // Before ours: they leave the GPU's memory behind them.
  std::vector<std::optional<Peer>> peers;
  if (options.peers && !peer_cases.empty()) {
    HEARTH_ASSIGN(peers, measure_peers(peer_cases, options.sustain));
  }

  const Ceilings ceilings = measure_ceilings();
  std::printf("%s, reads %.3f TB/s; floors at %.0f (FP8) and %.0f (16 bit) TFLOP/s\n", device.name, ceilings.read_tbs,
              ceilings.fp8_tflops, ceilings.bf16_tflops);
  Table table;
  size_t next_peer = 0;
  const auto take_peer = [&]() -> const Peer* {
    if (peers.empty()) return nullptr;
    const std::optional<Peer>& measured = peers[next_peer++];
    return measured ? &*measured : nullptr;
  };
  for (const ProductCase& c : products) {
    const Peer* peer = has_peer(c) ? take_peer() : nullptr;
    for (std::optional<GroupedGemmTile> tile : tiles) {
      if (tile) {
        const int fit = stages_that_fit(c.dtype, tile->warpgroups, tile->max_piece);
        tile->stages = tile->stages == 0 ? fit : std::min(tile->stages, fit);
      }
      const Result<BenchRow> row = bench_product(c, ceilings, tile, options.sustain);
      if (!row.ok() && !tile) return row.status();
      if (row.ok()) table.add(*row, tile, peer);
    }
  }
  if (wanted("small kernels")) {
    for (const BenchRow& r : bench_small_kernels(ceilings)) table.add(r, {}, nullptr);
  }
  if (wanted("exchange")) {
    HEARTH_ASSIGN(const std::vector<BenchRow> rows, bench_exchange());
    for (const BenchRow& r : rows) table.add(r, {}, nullptr);
  }
  for (const AttentionBench& c : attention) table.add(bench_attention(c, ceilings, options.sustain), {}, take_peer());
  if (!attention.empty()) {
    for (const AttentionBench& c :
         {AttentionBench{DType::kBF16, 0, 64, 1024}, AttentionBench{DType::kBF16, 1, 50, 1024},
          AttentionBench{DType::kE4M3, 1, 50, 1024}}) {
      table.add(bench_attention_plan(c), {}, nullptr);
    }
  }
  return Json{{"gpu", static_cast<const char*>(device.name)},
              {"read_tbs", ceilings.read_tbs},
              {"fp8_tflops", ceilings.fp8_tflops},
              {"act_tflops", ceilings.bf16_tflops},
              {"rows", table.take()}};
}

}  // namespace hearth::cuda
