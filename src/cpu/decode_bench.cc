// decode_bench [threads [context]]: speed of the CPU ops on a model of SmolLM2-135M's shape with random f16 weights,
// beside what the machine can do: a decode step's bytes of weights against its read bandwidth, a prompt's
// multiply-adds against its peak.
#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "cpu/cpu_backend.h"
#include "cpu/panels.h"
#include "cpu/test_tensors.h"
#include "cpu/thread_pool.h"

namespace hearth {
namespace {

constexpr int64_t kHidden = 576, kHeads = 9, kKvHeads = 3, kHeadDim = 64, kIntermediate = 1536, kLayers = 30,
                  kVocab = 49152, kQkv = (kHeads + 2 * kKvHeads) * kHeadDim;

double seconds_of(const std::function<void()>& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}
double median_seconds(int runs, const std::function<void()>& f) {
  std::vector<double> all;
  for (int i = 0; i < runs; ++i) all.push_back(seconds_of(f));
  std::nth_element(all.begin(), all.begin() + runs / 2, all.end());
  return all[static_cast<size_t>(runs / 2)];
}

// Bytes a second that all threads together can read from a buffer no cache holds: the best of several passes.
double read_bandwidth(ThreadPool& pool) {
  constexpr int64_t kBytes = int64_t{1} << 30;
  std::vector<int64_t> buffer(kBytes / 8, 1);
  std::atomic<int64_t> sink{0};
  double best = 1e9;
  for (int pass = 0; pass < 7; ++pass) {
    best = std::min(best, seconds_of([&] {
                      pool.run(kBytes / 64, [&](int64_t begin, int64_t end, int) {
                        __m256i sum[4] = {};
                        for (int64_t i = begin; i < end; i += 2) {
                          for (int64_t v = 0; v < 4; ++v) {
                            const auto* at = reinterpret_cast<const __m256i*>(buffer.data() + i * 8 + v * 4);
                            sum[v] = _mm256_add_epi64(sum[v], _mm256_loadu_si256(at));
                          }
                        }
                        sum[0] = _mm256_add_epi64(_mm256_add_epi64(sum[0], sum[1]), _mm256_add_epi64(sum[2], sum[3]));
                        sink += _mm256_extract_epi64(sum[0], 0);
                      });
                    }));
  }
  return static_cast<double>(kBytes) / best;
}

// Multiply-adds a second from registers.
constexpr int64_t kRounds = 20'000'000;
__attribute__((target("avx512f"))) float fma_avx512() {
  __m512 sum[12];
  for (auto& s : sum) s = _mm512_setzero_ps();
  for (int64_t i = 0; i < kRounds; ++i) {
    const __m512 x = _mm512_set1_ps(static_cast<float>(i));
#pragma GCC unroll 12
    for (int j = 0; j < 12; ++j) sum[j] = _mm512_fmadd_ps(x, x, sum[j]);
  }
  for (int j = 1; j < 12; ++j) sum[0] = _mm512_add_ps(sum[0], sum[j]);
  float lanes[16];
  _mm512_storeu_ps(lanes, sum[0]);
  return lanes[0];
}
float fma_avx2() {
  __m256 sum[12];
  for (auto& s : sum) s = _mm256_setzero_ps();
  for (int64_t i = 0; i < kRounds; ++i) {
    const __m256 x = _mm256_set1_ps(static_cast<float>(i));
#pragma GCC unroll 12
    for (int j = 0; j < 12; ++j) sum[j] = _mm256_fmadd_ps(x, x, sum[j]);
  }
  for (int j = 1; j < 12; ++j) sum[0] = _mm256_add_ps(sum[0], sum[j]);
  return _mm256_cvtss_f32(sum[0]);
}
double peak_multiply_adds(ThreadPool& pool) {
  std::vector<float> sink(static_cast<size_t>(pool.size()));
  double best = 1e9;
  for (int pass = 0; pass < 3; ++pass) {
    best = std::min(best, seconds_of([&] {
                      pool.run(pool.size(), [&](int64_t i, int64_t, int) {
                        sink[static_cast<size_t>(i)] = has_avx512() ? fma_avx512() : fma_avx2();
                      });
                    }));
  }
  return static_cast<double>(kRounds) * 12 * (has_avx512() ? 16 : 8) * pool.size() / best;
}

class Model {
 public:
  Model(LinearFormat format, int threads, int64_t max_tokens, int64_t context)
      : backend_(make_cpu_backend(DType::kF16, threads)), max_tokens_(max_tokens), context_(context) {
    for (int64_t l = 0; l < kLayers; ++l) {
      layers_.push_back({linear(kQkv, kHidden, format), linear(kHidden, kHeads * kHeadDim, format), mlp(format)});
      const int64_t blocks = ceil_div(context, kBlockSize);
      const Shape pages{blocks, kKvHeads, kBlockSize, kHeadDim};
      cache_.push_back({tensor(DType::kF16, pages), tensor(DType::kF16, pages), {}, {}});
      backend_->zero(cache_.back().k);
      backend_->zero(cache_.back().v);
    }
    head_ = linear(kVocab, kHidden, LinearFormat::kAsStored);
    table_ = tensor(DType::kF16, {kVocab, kHidden});
    backend_->zero(table_);
    norm_ = tensor(DType::kF32, {kHidden});
    std::fill_n(norm_.as<float>(), kHidden, 1.0f);
    cos_sin_ = tensor(DType::kF32, {context, kHeadDim});
    backend_->zero(cos_sin_);
    residual_ = tensor(DType::kF16, {max_tokens, kHidden});
    delta_ = tensor(DType::kF16, {max_tokens, kHidden});
    qkv_ = tensor(DType::kF16, {max_tokens, kQkv});
    hidden_ = backend_->input_of("hidden", layers_[0].qkv, max_tokens).value();
    attended_ = backend_->input_of("attended", layers_[0].out, max_tokens).value();
    HEARTH_CHECK(backend_->reserve_mlp(layers_[0].mlp, max_tokens).ok());
    last_ = backend_->input_of("last", head_, 1).value();
    logits_ = tensor(DType::kF32, {1, kVocab});
  }

  int64_t weight_bytes() const { return weight_bytes_; }

  // The last `tokens` of the context, as a prompt or one generated token.
  void step(int64_t tokens) {
    Ops& ops = backend_->ops();
    std::vector<int32_t> ids(tokens, 1), positions(tokens), tables(ceil_div(context_, kBlockSize));
    std::vector<int64_t> slots(tokens);
    for (int64_t t = 0; t < tokens; ++t) slots[t] = positions[t] = static_cast<int32_t>(context_ - tokens + t);
    for (size_t b = 0; b < tables.size(); ++b) tables[b] = static_cast<int32_t>(b);
    const OwnedTensor id = OwnedTensor::of(ids), position = OwnedTensor::of(positions), slot = OwnedTensor::of(slots),
                      start = OwnedTensor::of(std::vector<int32_t>{0, static_cast<int32_t>(tokens)}),
                      length = OwnedTensor::of(std::vector<int32_t>{static_cast<int32_t>(context_)}),
                      prompt = OwnedTensor::of(std::vector<int32_t>{static_cast<int32_t>(tokens > 1 ? context_ : 1)}),
                      table = OwnedTensor::of(tables, {1, static_cast<int64_t>(tables.size())});
    Batch batch;
    batch.query_start = start;
    batch.context_lens = length;
    batch.prompt_lens = prompt;
    batch.block_tables = table;
    const Tensor residual = residual_.rows(0, tokens), delta = delta_.rows(0, tokens), qkv = qkv_.rows(0, tokens);
    ops.embed({id, {}, table_, residual});
    Tensor pending;
    for (int64_t l = 0; l < kLayers; ++l) {
      const Layer& layer = layers_[static_cast<size_t>(l)];
      ops.norm({residual, pending, norm_, 1e-5f, hidden_.rows(tokens), {}});
      ops.linear({hidden_.rows(tokens), &layer.qkv, qkv});
      ops.rope_append_kv({qkv, position, slot, cos_sin_, kHeads, kKvHeads, kHeadDim, cache_[l], {}, {}});
      AttentionArgs attention{qkv, &batch, {kHeads, kKvHeads, kHeadDim}, 0.125f, cache_[l], attended_.rows(tokens)};
      ops.attention(attention);
      ops.linear({attended_.rows(tokens), &layer.out, delta});
      ops.norm({residual, delta, norm_, 1e-5f, hidden_.rows(tokens), {}});
      ops.mlp({hidden_.rows(tokens), &layer.mlp, delta});
      pending = delta;
    }
    ops.norm({residual.rows(tokens - 1, 1), delta.rows(tokens - 1, 1), norm_, 1e-5f, last_, {}});
    ops.linear({last_, &head_, logits_});
  }

 private:
  struct Layer {
    LinearWeight qkv, out;
    MlpWeights mlp;
  };

  Tensor tensor(DType dtype, Shape shape) { return backend_->allocate("bench", dtype, shape).value(); }
  HostMatrix random(OwnedTensor& memory, int64_t out, int64_t in) {
    memory = OwnedTensor(DType::kF16, {out, in});
    F16* values = Tensor(memory).as<F16>();  // uniform in +-[1/64, 1/32): speed is what counts
    for (int64_t i = 0; i < out * in; ++i) values[i].bits = static_cast<uint16_t>(0x2400u | (random_() & 0x83FFu));
    return {memory, WeightScales::kNone, {}};
  }
  void count(const LinearWeight& w) { weight_bytes_ += w.data.bytes(); }
  LinearWeight linear(int64_t out, int64_t in, LinearFormat format) {
    OwnedTensor memory;
    const HostMatrix part = random(memory, out, in);
    const LinearWeight w = backend_->load_linear("bench", {&part, 1}, {}, format).value();
    count(w);
    return w;
  }
  MlpWeights mlp(LinearFormat format) {
    OwnedTensor gate, up, down;
    const MlpWeights w =
        backend_
            ->load_mlp("bench", random(gate, kIntermediate, kHidden), random(up, kIntermediate, kHidden),
                       random(down, kHidden, kIntermediate), format)
            .value();
    count(w.gate_up);
    count(w.down);
    return w;
  }

  std::unique_ptr<Backend> backend_;
  const int64_t max_tokens_, context_;
  std::mt19937 random_{1};
  int64_t weight_bytes_ = 0;
  std::vector<Layer> layers_;
  std::vector<KvCacheLayer> cache_;
  LinearWeight head_;
  Tensor table_, norm_, cos_sin_, residual_, delta_, qkv_, logits_;
  Activation hidden_, attended_, last_;
};

int run(int threads, int64_t context) {
  ThreadPool pool(threads);
  const double bandwidth = read_bandwidth(pool), peak = peak_multiply_adds(pool);
  std::printf("threads %d, %s: reads %.1f GB/s, %.0f G multiply-adds/s\n", pool.size(),
              has_avx512() ? "AVX-512" : "AVX2", bandwidth / 1e9, peak / 1e9);
  const double multiply_adds =
      static_cast<double>(kLayers * (kQkv * kHidden + kHeads * kHeadDim * kHidden + 3 * kHidden * kIntermediate));
  for (const auto& [name, format] :
       {std::pair{"f16", LinearFormat::kAsStored}, std::pair{"e4m3", LinearFormat::kQuantize},
        std::pair{"e4m3 weights only", LinearFormat::kWeightOnly}}) {
    const int64_t chunk = std::min<int64_t>(256, context);
    Model model(format, threads, chunk, context);
    model.step(1);
    const double decode = median_seconds(15, [&] { model.step(1); });
    const double achieved = static_cast<double>(model.weight_bytes()) / decode;
    std::printf("%s: decode at context %lld: %.2f ms, %.1f MB of weights, %.1f GB/s = %.0f%% of reads\n", name,
                static_cast<long long>(context), decode * 1e3, static_cast<double>(model.weight_bytes()) / 1e6,
                achieved / 1e9, 100 * achieved / bandwidth);
    for (const int64_t tokens : {int64_t{16}, chunk}) {
      const double prefill = median_seconds(3, [&] { model.step(tokens); });
      const double rate = static_cast<double>(tokens) * multiply_adds / prefill;
      std::printf("%s: prompt of %lld: %.1f ms, %.1f G multiply-adds/s of its linear layers = %.0f%% of peak\n", name,
                  static_cast<long long>(tokens), prefill * 1e3, rate / 1e9, 100 * rate / peak);
    }
  }
  return 0;
}

}  // namespace
}  // namespace hearth

int main(int argc, char** argv) {
  return hearth::run(argc > 1 ? std::atoi(argv[1]) : 0, argc > 2 ? std::atoll(argv[2]) : 256);
}
