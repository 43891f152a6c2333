// Measuring the small kernels: every tensor has copies that together do not fit the L2 cache, taken in turn.
#include "cuda/bench/small_kernels.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <random>

#include "cuda/check.h"
#include "cuda/small_kernels.h"

namespace hearth::cuda {
namespace {

constexpr int64_t kHidden = 4096, kIntermediate = 14336, kExperts = 8, kTopK = 2, kHeads = 32, kKvHeads = 8,
                  kHeadDim = 128, kVocab = 32000;
constexpr int64_t kBeyondCache = int64_t{256} << 20;

class Memory {
 public:
  Memory() = default;
  ~Memory() {
    for (void* p : owned_) cudaFree(p);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  Tensor empty(DType dtype, Shape shape) {
    Tensor out{nullptr, dtype, shape};
    HEARTH_CUDA_CHECK(cudaMalloc(&out.data, static_cast<size_t>(std::max<int64_t>(out.bytes(), 16))));
    HEARTH_CUDA_CHECK(cudaMemset(out.data, 0, static_cast<size_t>(out.bytes())));
    owned_.push_back(out.data);
    return out;
  }
  Tensor normal(Shape shape, float deviation = 1.0f) {
    const Tensor out = empty(DType::kBF16, shape);
    fill_normal_bf16(out.data, shape.elements(), deviation, ++seed_);
    return out;
  }
  template <typename T>
  Tensor copy_of(DType dtype, Shape shape, const std::vector<T>& values) {
    const Tensor out = empty(dtype, shape);
    HEARTH_CUDA_CHECK(cudaMemcpy(out.data, values.data(), static_cast<size_t>(out.bytes()), cudaMemcpyHostToDevice));
    return out;
  }
  Tensor ones(int64_t n) { return copy_of<float>(DType::kF32, {n}, std::vector<float>(static_cast<size_t>(n), 1.0f)); }
  // A step's sizes, of which kernels read the number of rows.
  Tensor count(int64_t rows) {
    return copy_of<int32_t>(DType::kI32, {3}, std::vector<int32_t>(3, static_cast<int32_t>(rows)));
  }
  // A scale per token, as the model's own steps have it.
  Activation e4m3(int64_t rows, int64_t dim) {
    return {empty(DType::kE4M3, {rows, dim}), empty(DType::kF32, {1, ceil_div(rows, 4) * 4})};
  }

 private:
  std::vector<void*> owned_;
  uint32_t seed_ = 0;
};

// One copy of a case: its tensors, and the launch on them.
using Launch = std::function<void(cudaStream_t)>;
using MakeCopy = std::function<Launch(Memory&)>;

class Bench {
 public:
  explicit Bench(const Ceilings& ceilings) : ceilings_(ceilings) {}

  // `bytes`: each input read once, each output written once.
  void row(const char* kernel, std::string shape, int64_t bytes, const MakeCopy& make) {
    Memory memory;
    std::vector<Launch> copies;
    const int64_t count = std::clamp<int64_t>(kBeyondCache / bytes + 1, 2, 32);
    for (int64_t i = 0; i < count; ++i) copies.push_back(make(memory));
    HEARTH_CUDA_CHECK(cudaDeviceSynchronize());
    BenchRow out{kernel, std::move(shape)};
    out.us = time_calls(64, [&](int call, cudaStream_t stream) {
               copies[static_cast<size_t>(call) % copies.size()](stream);
             }).us;
    const double floor_us = bytes / ceilings_.read_tbs * 1e-6;
    out.tbs = bytes / out.us * 1e-6;
    out.share_of_floor = floor_us / out.us;
    rows.push_back(out);
  }

  std::vector<BenchRow> rows;

 private:
  const Ceilings& ceilings_;
};

Routing random_routing(Memory& m, int64_t tokens, int64_t experts = kExperts, int64_t top_k = kTopK) {
  std::mt19937 random(7);
  std::vector<int32_t> rows(static_cast<size_t>(tokens * top_k));
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int32_t>(i);
  std::shuffle(rows.begin(), rows.end(), random);
  Routing r;
  r.rows = m.copy_of(DType::kI32, {tokens, top_k}, rows);
  r.weights = m.copy_of(DType::kF32, {tokens, top_k}, std::vector<float>(rows.size(), 0.5f));
  r.experts = m.empty(DType::kI32, {tokens, top_k});
  r.starts = m.empty(DType::kI32, {experts});
  r.ends = m.empty(DType::kI32, {experts});
  return r;
}

void routing(Bench& bench, int64_t tokens, int64_t hidden, int64_t experts, int64_t top_k) {
  const int64_t bytes = (tokens + experts) * hidden * 2;
  const std::string shape = cat("T=", tokens, " hidden=", hidden, " ", experts, " experts top ", top_k);
  bench.row("route", shape, bytes, [=](Memory& m) -> Launch {
    const RouteArgs args{m.normal({tokens, hidden}),
                         m.normal({experts, hidden}, 0.02f),
                         m.count(tokens),
                         {},
                         random_routing(m, tokens, experts, top_k)};
    const Tensor counter = m.empty(DType::kI32, {1}), bits = m.empty(DType::kU8, {route_bits_bytes(tokens)});
    return [=](cudaStream_t s) { route(args, static_cast<uint32_t*>(counter.data), bits.data, s); };
  });
}

void around_products(Bench& bench, int64_t tokens) {
  const std::string shape = cat("T=", tokens, " hidden=", kHidden);
  const int64_t act = tokens * kHidden * 2, fp8 = tokens * (kHidden + 4);
  bench.row("embed", shape, 2 * act, [=](Memory& m) -> Launch {
    std::vector<int32_t> ids(static_cast<size_t>(tokens));
    std::mt19937 random(3);
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % 2048);
    const EmbedArgs args{m.copy_of(DType::kI32, {tokens}, ids),
                         {},
                         m.normal({2048, kHidden}),
                         m.empty(DType::kBF16, {tokens, kHidden}),
                         m.count(tokens)};
    return [args](cudaStream_t s) { embed(args, s); };
  });
  for (const bool quantized : {false, true}) {
    const std::string out = quantized ? " to e4m3" : " to bf16";
    bench.row("norm", shape + " residual" + out, 3 * act + (quantized ? fp8 : act), [=](Memory& m) -> Launch {
      const NormArgs args{
          m.normal({tokens, kHidden}),
          m.normal({tokens, kHidden}),
          m.ones(kHidden),
          1e-5f,
          quantized ? m.e4m3(tokens, kHidden) : Activation{m.empty(DType::kBF16, {tokens, kHidden}), {}},
          {},
          m.count(tokens)};
      return [args](cudaStream_t s) { norm(args, s); };
    });
    const int64_t written = kTopK * (quantized ? fp8 : act);
    bench.row("dispatch", shape + " top 2" + out, act + written, [=](Memory& m) -> Launch {
      const Routing routing = random_routing(m, tokens);
      const Tensor x = m.normal({tokens, kHidden});
      const Activation to = quantized ? m.e4m3(tokens * kTopK, kHidden)
                                      : Activation{m.empty(DType::kBF16, {tokens * kTopK, kHidden}), {}};
      const Tensor count = m.count(tokens);
      return [=](cudaStream_t s) { dispatch(x, routing, to, count, s); };
    });
  }
  // Attention's output, and the experts' intermediate.
  for (const int64_t each : {int64_t{1}, kTopK}) {
    const int64_t dim = each == 1 ? kHidden : kIntermediate, rows = tokens * each;
    bench.row("quantize", cat(rows, " rows of ", dim), rows * (dim * 3 + 4), [=](Memory& m) -> Launch {
      const Tensor x = m.normal({rows, dim}), count = m.count(tokens);
      const Activation to = m.e4m3(rows, dim);
      return [=](cudaStream_t s) { quantize(x, to, count, each, s); };
    });
  }
  bench.row("norm", shape + " residual and 2 experts to e4m3", (kTopK + 2) * act + fp8, [=](Memory& m) -> Launch {
    const Routing routing = random_routing(m, tokens);
    NormArgs args{m.normal({tokens, kHidden}),
                  m.normal({tokens * kTopK, kHidden}),
                  m.ones(kHidden),
                  1e-5f,
                  m.e4m3(tokens, kHidden),
                  {},
                  m.count(tokens)};
    return [=](cudaStream_t s) mutable {
      args.routing = &routing;
      norm(args, s);
    };
  });
  for (const bool fp8_pages : {false, true}) {
    const int64_t q = tokens * kHeads * kHeadDim * 2, kv = tokens * 2 * kKvHeads * kHeadDim * 2;
    const int64_t written = fp8_pages ? kv / 2 + tokens * 2 * kKvHeads * 4 : kv;
    bench.row("rope_append_kv", cat("T=", tokens, " 32+8 heads of 128, ", fp8_pages ? "e4m3" : "bf16", " pages"),
              2 * q + kv + written, [=](Memory& m) -> Launch {
                std::vector<int32_t> positions;
                std::vector<int64_t> slots;
                for (int64_t t = 0; t < tokens; ++t) {
                  positions.push_back(static_cast<int32_t>(t));
                  slots.push_back(t);
                }
                const Shape pages{ceil_div(tokens, kBlockSize), kKvHeads, kBlockSize, kHeadDim};
                const Shape scales{pages[0], kKvHeads, kBlockSize};
                const DType page = fp8_pages ? DType::kE4M3 : DType::kBF16;
                KvCacheLayer cache{m.empty(page, pages), m.empty(page, pages)};
                if (fp8_pages)
                  cache.k_scales = m.empty(DType::kF32, scales), cache.v_scales = m.empty(DType::kF32, scales);
                const RopeAppendKvArgs args{m.normal({tokens, (kHeads + 2 * kKvHeads) * kHeadDim}),
                                            m.copy_of(DType::kI32, {tokens}, positions),
                                            m.copy_of(DType::kI64, {tokens}, slots),
                                            m.empty(DType::kF32, {tokens, kHeadDim}),
                                            kHeads,
                                            kKvHeads,
                                            kHeadDim,
                                            cache,
                                            {},
                                            {},
                                            m.count(tokens)};
                return [args](cudaStream_t s) { rope_append_kv(args, s); };
              });
  }
}

void sampling(Bench& bench, int64_t rows, int64_t vocab, const char* name, const SamplingRow& params) {
  std::mt19937 random(11);
  std::normal_distribution<float> normal(0.0f, 2.5f);
  std::vector<float> logits(static_cast<size_t>(rows * vocab));
  for (float& l : logits) l = normal(random);
  bench.row("sample", cat(rows, " rows of ", vocab, ", ", name), rows * vocab * 4, [&](Memory& m) -> Launch {
    std::vector<uint8_t> bytes(static_cast<size_t>(rows) * sizeof(SamplingRow));
    for (int64_t r = 0; r < rows; ++r) {
      SamplingRow row = params;
      row.seed = static_cast<uint64_t>(r);
      std::memcpy(bytes.data() + static_cast<size_t>(r) * sizeof row, &row, sizeof row);
    }
    SampleArgs args;
    args.logits = m.copy_of(DType::kF32, {rows, vocab}, logits);
    args.rows = m.copy_of(DType::kU8, {rows, sizeof(SamplingRow)}, bytes);
    args.tokens = m.empty(DType::kI32, {rows});
    args.logprobs = m.empty(DType::kF32, {rows});
    args.ranks = m.empty(DType::kI32, {rows});
    args.top_tokens = m.empty(DType::kI32, {rows, 20});
    args.top_logprobs = m.empty(DType::kF32, {rows, 20});
    return [args](cudaStream_t s) { sample(args, s); };
  });
}

}  // namespace

std::vector<BenchRow> bench_small_kernels(const Ceilings& ceilings) {
  Bench bench(ceilings);
  for (const int64_t tokens : {1, 64, 1024}) around_products(bench, tokens);
  for (const int64_t tokens : {1, 8, 64, 256, 1024}) {
    routing(bench, tokens, kHidden, kExperts, kTopK);
    routing(bench, tokens, 2048, 128, 8);  // Qwen3-30B-A3B
  }
  SamplingRow greedy, draw, filtered, logprobs;
  greedy.temperature = 0;
  filtered.top_k = 50;
  filtered.top_p = 0.9f;
  filtered.temperature = 0.8f;
  logprobs.temperature = 0;
  logprobs.num_logprobs = 5;
  for (const int64_t rows : {1, 64, 256}) {
    sampling(bench, rows, kVocab, "greedy", greedy);
    sampling(bench, rows, kVocab, "temperature 1", draw);
    sampling(bench, rows, kVocab, "top-k 50, top-p 0.9", filtered);
    sampling(bench, rows, kVocab, "greedy with 5 logprobs", logprobs);
  }
  sampling(bench, 64, 151936, "greedy", greedy);
  sampling(bench, 64, 151936, "top-k 50, top-p 0.9", filtered);
  return bench.rows;
}

}  // namespace hearth::cuda
