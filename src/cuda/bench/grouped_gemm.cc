// Measuring grouped_gemm: shapes, floors and rows.
#include "cuda/bench/grouped_gemm.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "cuda/check.h"
#include "cuda/weight_tiles.h"
#include "cuda/weight_units.h"

namespace hearth::cuda {
namespace {

template <typename T>
class Buffer {
 public:
  explicit Buffer(int64_t size) {
    HEARTH_CUDA_CHECK(cudaMalloc(&data_, static_cast<size_t>(std::max<int64_t>(size, 1)) * sizeof(T)));
  }
  ~Buffer() { cudaFree(data_); }
  Buffer(const Buffer&) = delete;
  T* get() const { return data_; }

 private:
  T* data_ = nullptr;
};

constexpr float kE4M3Deviation = 60;

void fill(DType dtype, void* data, int64_t size, float e4m3_deviation, float deviation, uint32_t seed) {
  if (dtype == DType::kE4M3) return fill_normal_e4m3(data, size, e4m3_deviation, seed);
  fill_normal_bf16(data, size, deviation, seed);
}

}  // namespace

std::vector<int> random_routing(int tokens, int experts, int top_k, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int> rows(static_cast<size_t>(experts)), order(rows.size());
  std::iota(order.begin(), order.end(), 0);
  for (int t = 0; t < tokens; ++t) {
    std::shuffle(order.begin(), order.end(), random);
    for (int i = 0; i < top_k; ++i) ++rows[static_cast<size_t>(order[static_cast<size_t>(i)])];
  }
  return rows;
}

std::vector<int> skewed_routing(int tokens, int experts, uint32_t seed) {
  std::vector<int> rows = random_routing(tokens, experts - 3, 1, seed);
  rows.insert(rows.begin(), tokens);
  rows.insert(rows.end(), 2, 0);
  return rows;
}

Result<BenchRow> bench_product(const ProductCase& c, const Ceilings& ceilings,
                               const std::optional<GroupedGemmTile>& tile, double sustain) {
  const bool e4m3 = c.dtype == DType::kE4M3, swiglu = c.epilogue == Epilogue::kSwiglu;
  const int64_t element = dtype_size(c.dtype);
  std::vector<int32_t> starts, ends;
  int32_t rows = 0;
  int64_t active = 0;
  for (int count : c.group_rows) {
    starts.push_back(rows);
    ends.push_back(rows += count);
    active += count > 0;
  }
  const int64_t weight_size = c.groups * weight_bytes(c.n, c.k * element) / element;
  constexpr int64_t kBeyondCache = 400 << 20;
  const int copies = static_cast<int>(std::clamp<int64_t>(kBeyondCache / (weight_size * element) + 1, 1, 32));
  const int64_t stride = (rows + 3) / 4 * 4, k_blocks = (c.k + 127) / 128, columns = swiglu ? c.n / 2 : c.n;
  Buffer<char> w(copies * weight_size * element), x(rows * c.k * element), y(rows * columns * 2);
  Buffer<float> x_scales(stride * k_blocks);
  Buffer<float> w_scales(c.groups * std::max(c.n, (c.n + 127) / 128 * k_blocks));
  Buffer<int32_t> device_starts(c.groups), device_ends(c.groups);
  // As loading would have them.
  const float unit = e4m3 && c.row_scales ? weight_unit_of_normals(kE4M3Deviation) : 1.0f;
  fill(c.dtype, w.get(), copies * weight_size, kE4M3Deviation / unit, 0.02f, 1);
  fill(c.dtype, x.get(), rows * c.k, c.row_scales ? kE4M3Deviation * kRowE4M3Max / kE4M3Max : kE4M3Deviation, 1.0f, 2);
  fill_f32(x_scales.get(), stride * k_blocks, 0.02f);
  fill_f32(w_scales.get(), c.groups * std::max(c.n, (c.n + 127) / 128 * k_blocks), 3e-4f * unit);
  HEARTH_CUDA_CHECK(cudaMemcpy(device_starts.get(), starts.data(), starts.size() * 4, cudaMemcpyHostToDevice));
  HEARTH_CUDA_CHECK(cudaMemcpy(device_ends.get(), ends.data(), ends.size() * 4, cudaMemcpyHostToDevice));

  const bool to_e4m3 = e4m3 && swiglu && c.static_out;
  GroupedGemm args{c.dtype, c.epilogue, to_e4m3 ? DType::kE4M3 : DType::kBF16, c.weight_scales, c.groups, c.n,
                   c.k,     rows};
  args.x_row_scales = c.row_scales;
  // A step of t tokens gives a group at most t rows; a dense layer, all of them.
  args.max_group = c.groups > 1 ? std::max<int64_t>(rows / c.top_k, 1) : rows;
  args.x = x.get(), args.y = y.get();
  args.starts = device_starts.get(), args.ends = device_ends.get();
  if (e4m3) args.x_scales = x_scales.get(), args.x_scale_stride = stride, args.w_scales = w_scales.get();
  const int calls = std::max(copies, 6);
  BenchRow row;
  Status status;
  const Timing timing = time_calls(
      calls,
      [&](int call, cudaStream_t stream) {
        GroupedGemm with = args;
        with.w = w.get() + call % copies * weight_size * element;
        if (status.ok()) status = tile ? grouped_gemm(with, *tile, stream) : grouped_gemm(with, stream);
      },
      sustain);
  HEARTH_TRY(status);
  row.us = timing.us, row.ghz = timing.ghz;
  const double flops = 2.0 * static_cast<double>(rows) * static_cast<double>(c.n * c.k);
  const double bytes = static_cast<double>(active * c.n * c.k * element);
  const double floor =
      std::max(bytes / ceilings.read_tbs, flops / (e4m3 ? ceilings.fp8_tflops : ceilings.bf16_tflops)) / 1e6;
  row.kernel = cat("grouped_gemm ", dtype_name(c.dtype), swiglu ? " swiglu" : "",
                   c.weight_scales == WeightScales::kBlock ? " block" : "", c.row_scales ? " row" : "",
                   c.static_out ? " static" : "");
  row.shape = cat(c.name, " [", c.groups, " x ", c.n, " x ", c.k, "] rows ", rows);
  row.tflops = flops / row.us / 1e6;
  row.tbs = bytes / row.us / 1e6;
  row.share_of_floor = floor / row.us;
  return row;
}

namespace {

// Qwen3-30B-A3B's, where launches and latencies count.
void add_small_experts(std::vector<ProductCase>& cases) {
  constexpr int kHidden = 2048, kIntermediate = 768, kExperts = 128, kTopK = 8;
  constexpr auto kScales = WeightScales::kChannel;
  for (int tokens : {1, 8, 16, 32, 64, 256, 1024}) {
    const auto rows = random_routing(tokens, kExperts, kTopK, static_cast<uint32_t>(tokens));
    const std::string t = cat(" T=", tokens);
    cases.push_back(
        {"qwen3 w13" + t, DType::kE4M3, Epilogue::kSwiglu, kExperts, 2 * kIntermediate, kHidden, rows, kScales});
    cases.push_back({"qwen3 w2" + t, DType::kE4M3, Epilogue::kStore, kExperts, kHidden, kIntermediate, rows, kScales});
    for (size_t i = cases.size() - 2; i < cases.size(); ++i) cases[i].top_k = kTopK;
    cases.push_back({"qwen3 qkv", DType::kE4M3, Epilogue::kStore, 1, 5120, kHidden, {tokens}, kScales});
    cases.push_back({"qwen3 o", DType::kE4M3, Epilogue::kStore, 1, kHidden, 4096, {tokens}, kScales});
  }
}

}  // namespace

std::vector<ProductCase> grouped_gemm_cases() {
  std::vector<ProductCase> cases;
  constexpr int kHidden = 4096, kIntermediate = 14336, kExperts = 8;
  struct Kind {
    DType dtype;
    WeightScales scales;
    bool row_scales;
  };
  for (const auto& [dtype, scales, row_scales] :
       {Kind{DType::kE4M3, WeightScales::kChannel, true}, Kind{DType::kE4M3, WeightScales::kBlock, false},
        Kind{DType::kBF16, WeightScales::kNone, false}}) {
    const size_t first = cases.size();
    for (int tokens : {1, 8, 32, 128, 256, 512, 768, 896, 1024, 2048, 8192}) {
      const auto rows = random_routing(tokens, kExperts, 2, static_cast<uint32_t>(tokens));
      const std::string t = cat(" T=", tokens);
      cases.push_back({"w13" + t, dtype, Epilogue::kStore, kExperts, 2 * kIntermediate, kHidden, rows, scales});
      cases.push_back({"w13" + t, dtype, Epilogue::kSwiglu, kExperts, 2 * kIntermediate, kHidden, rows, scales});
      cases.push_back({"w2" + t, dtype, Epilogue::kStore, kExperts, kHidden, kIntermediate, rows, scales});
    }
    for (int tokens : {32, 512, 1024}) {
      const auto rows = skewed_routing(tokens, kExperts, static_cast<uint32_t>(tokens));
      const std::string t = cat(" skewed T=", tokens);
      cases.push_back({"w13" + t, dtype, Epilogue::kSwiglu, kExperts, 2 * kIntermediate, kHidden, rows, scales});
      cases.push_back({"w2" + t, dtype, Epilogue::kStore, kExperts, kHidden, kIntermediate, rows, scales});
    }
    for (int m : {1, 16, 64, 256, 1024, 2048, 8192}) {
      cases.push_back({"qkv", dtype, Epilogue::kStore, 1, 6144, kHidden, {m}, scales});
      cases.push_back({"o", dtype, Epilogue::kStore, 1, kHidden, kHidden, {m}, scales});
      if (dtype == DType::kBF16 && m <= 1024)
        cases.push_back({"head", dtype, Epilogue::kStore, 1, 32000, kHidden, {m}, scales});
    }
    if (row_scales) add_small_experts(cases);
    for (size_t i = first; i < cases.size(); ++i) cases[i].row_scales = row_scales;
    if (!row_scales) continue;
    for (size_t i = first, end = cases.size(); i < end; ++i) {
      if (cases[i].epilogue != Epilogue::kSwiglu) continue;
      ProductCase fixed = cases[i];
      fixed.static_out = true;
      cases.push_back(std::move(fixed));
    }
  }
  return cases;
}

}  // namespace hearth::cuda
