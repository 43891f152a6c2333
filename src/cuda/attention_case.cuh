// A step of attention for tests and benchmarks: sequences at random places of a paged cache, with contents that are a
// pure function of (seed, sequence, position, head, dimension), so that the same sequence can be met again in another
// batch.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <thread>
#include <vector>

#include "cuda/fire_attention.h"
#include "cuda/launch.h"

namespace hearth::cuda {

struct CaseSequence {
  int32_t context, rows, prompt;  // tokens in the cache, query rows of this step, length of the prompt
  int32_t identity;               // names its contents
};

struct AttentionCase {
  DType act = DType::kBF16, kv = DType::kBF16;
  int64_t heads = 32, kv_heads = 8, head_dim = 128, window = 0;
  std::vector<CaseSequence> sequences;
  uint64_t seed = 1;
  int64_t max_tokens = 0;         // 0: as many as there are
  int64_t max_prompt_blocks = 0;  // beside e4m3 pages; 0: one more than there are
  float e4m3_factor = 0.0f;       // the result as e4m3, times this, a power of two; 0: in the act type
  bool sinks = false;             // a sink for each head, some far below and far above the logits
};

// Device memory that frees itself.
class DeviceBuffer {
 public:
  explicit DeviceBuffer(int64_t bytes) : bytes_(bytes) {
    HEARTH_CUDA_CHECK(cudaMalloc(&data_, static_cast<size_t>(std::max<int64_t>(bytes, 16))));
  }
  DeviceBuffer(DeviceBuffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_) {}
  ~DeviceBuffer() { cudaFree(data_); }
  void* data() const { return data_; }
  template <typename T>
  static DeviceBuffer of(const std::vector<T>& host) {
    DeviceBuffer out(static_cast<int64_t>(host.size() * sizeof(T)));
    HEARTH_CUDA_CHECK(cudaMemcpy(out.data_, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice));
    return out;
  }

 private:
  void* data_ = nullptr;
  int64_t bytes_;
};

inline void parallel_for(int64_t count, auto&& body) {
  const int64_t threads = std::max<int64_t>(1, std::min<int64_t>(std::thread::hardware_concurrency(), count));
  std::vector<std::thread> pool;
  for (int64_t t = 0; t < threads; ++t) {
    pool.emplace_back([&, t] {
      for (int64_t i = t; i < count; i += threads) body(i);
    });
  }
  for (auto& thread : pool) thread.join();
}

// About normal, mean 0, deviation 1.
inline float case_value(uint64_t seed, uint64_t what, uint64_t sequence, uint64_t position, uint64_t element) {
  uint64_t x = seed * 0x9E3779B97F4A7C15ull + what * 0xD1B54A32D192ED03ull + sequence * 0x8CB92BA72F3D8DD7ull +
               position * 0xABC98388FB8FAC03ull + element * 0x2545F4914F6CDD1Dull;
  for (int i = 0; i < 2; ++i) {
    x ^= x >> 30;
    x *= 0xBF58476D1CE4E5B9ull;
    x ^= x >> 27;
  }
  int sum = 0;
  for (int i = 0; i < 8; ++i) sum += static_cast<int>(x >> (8 * i) & 255);
  return static_cast<float>(sum - 1020) / 209.0f;
}

class AttentionProblem {
 public:
  explicit AttentionProblem(const AttentionCase& c)
      : case_(c), tokens_(0), query_start_{0}, blocks_(0), max_blocks_(1) {
    for (const CaseSequence& s : c.sequences) {
      query_start_.push_back(query_start_.back() + s.rows);
      contexts_.push_back(s.context);
      prompts_.push_back(s.prompt);
      const int64_t blocks = ceil_div(s.context, kBlockSize);
      blocks_ += blocks;
      max_blocks_ = std::max(max_blocks_, blocks);
    }
    tokens_ = std::max<int64_t>(c.max_tokens, query_start_.back());
    blocks_ += 3;  // that belong to nobody
    std::vector<int32_t> order(static_cast<size_t>(blocks_));
    for (int64_t i = 0; i < blocks_; ++i) order[static_cast<size_t>(i)] = static_cast<int32_t>(i);
    std::shuffle(order.begin(), order.end(), std::mt19937_64(c.seed * 77 + c.sequences.size()));
    tables_.assign(static_cast<size_t>(max_blocks_) * std::max<size_t>(1, c.sequences.size()), 0x3FFFFFFF);
    size_t next = 0;
    for (size_t s = 0; s < c.sequences.size(); ++s) {
      for (int64_t b = 0; b < ceil_div(contexts_[s], kBlockSize); ++b) tables_[s * max_blocks_ + b] = order[next++];
    }
    fill();
  }

  int64_t tokens() const { return query_start_.back(); }

  // One call of the op; out is [tokens of the bucket, heads, head_dim] as bits of the act type, which has all of
  // e4m3's.
  std::vector<uint16_t> run(int multiprocessors, int repeats = 1) {
    const auto& c = case_;
    const DeviceBuffer q = DeviceBuffer::of(qkv_), k = DeviceBuffer::of(k_), v = DeviceBuffer::of(v_),
                       ks = DeviceBuffer::of(k_scales_), vs = DeviceBuffer::of(v_scales_),
                       start = DeviceBuffer::of(query_start_), context = DeviceBuffer::of(contexts_),
                       prompt = DeviceBuffer::of(prompts_), tables = DeviceBuffer::of(tables_);
    const std::vector<int32_t> size_values = {static_cast<int32_t>(tokens()), static_cast<int32_t>(c.sequences.size()),
                                              0};
    const DeviceBuffer sizes = DeviceBuffer::of(size_values);
    std::vector<uint16_t> out(static_cast<size_t>(tokens_ * c.heads * c.head_dim), 0x7FFF);  // NaN in both types
    const DeviceBuffer device_out = DeviceBuffer::of(out);
    const auto sequences = static_cast<int64_t>(c.sequences.size());
    Batch batch;
    batch.num_tokens = tokens_;
    batch.num_sequences = sequences;
    batch.sizes = {sizes.data(), DType::kI32, {3}};
    batch.query_start = {start.data(), DType::kI32, {sequences + 1}};
    batch.context_lens = {context.data(), DType::kI32, {sequences}};
    batch.prompt_lens = {prompt.data(), DType::kI32, {sequences}};
    batch.block_tables = {tables.data(), DType::kI32, {sequences, max_blocks_}};
    const int64_t wide_pages = !scaled() ? 0 : c.max_prompt_blocks ? c.max_prompt_blocks : prompt_blocks() + 1;
    const FireAttentionShape shape{.act = c.act,
                                   .kv = c.kv,
                                   .heads = c.heads,
                                   .kv_heads = c.kv_heads,
                                   .head_dim = c.head_dim,
                                   .window = c.window,
                                   .max_tokens = tokens_,
                                   .max_sequences = std::max<int64_t>(1, sequences),
                                   .max_blocks = max_blocks_,
                                   .max_prompt_blocks = wide_pages};
    const DeviceBuffer workspace(FireAttention::workspace_bytes(shape));
    HEARTH_CUDA_CHECK(cudaMemset(workspace.data(), 0, static_cast<size_t>(FireAttention::workspace_bytes(shape))));
    // A page behind the last must stay as it is.
    const int64_t page_bytes = 2 * c.kv_heads * kBlockSize * c.head_dim;
    const DeviceBuffer wide_k((wide_pages + 1) * page_bytes), wide_v((wide_pages + 1) * page_bytes);
    const FireAttention attention(shape, {workspace.data(), wide_k.data(), wide_v.data()}, multiprocessors);
    AttentionArgs args;
    args.qkv = {q.data(), c.act, {tokens_, (c.heads + 2 * c.kv_heads) * c.head_dim}};
    args.batch = &batch;
    args.shape = {c.heads, c.kv_heads, c.head_dim, c.window, c.kv};
    args.scale = scale();
    args.cache.k = {k.data(), c.kv, {blocks_, c.kv_heads, kBlockSize, c.head_dim}};
    args.cache.v = {v.data(), c.kv, {blocks_, c.kv_heads, kBlockSize, c.head_dim}};
    args.cache.k_scales = {ks.data(), DType::kF32, {blocks_, c.kv_heads, kBlockSize}};
    args.cache.v_scales = {vs.data(), DType::kF32, {blocks_, c.kv_heads, kBlockSize}};
    const bool out_e4m3 = c.e4m3_factor > 0;
    args.out.data = {device_out.data(), out_e4m3 ? DType::kE4M3 : c.act, {tokens_, c.heads * c.head_dim}};
    if (out_e4m3) args.out_factor = c.e4m3_factor;
    const DeviceBuffer sinks = DeviceBuffer::of(head_sinks());
    if (c.sinks) args.sinks = {sinks.data(), DType::kF32, {c.heads}};
    // Scratch starts as NaN, and entries of its table that the plan leaves alone name a page that stays so.
    if (scaled()) {
      const std::vector<int32_t> nowhere(static_cast<size_t>(shape.max_sequences * max_blocks_),
                                         static_cast<int32_t>(wide_pages - 1));
      HEARTH_CUDA_CHECK(
          cudaMemcpy(attention.built_plan().wide_tables, nowhere.data(), nowhere.size() * 4, cudaMemcpyHostToDevice));
    }
    const auto poison = [&] {
      for (const DeviceBuffer* wide : {&wide_k, &wide_v}) {
        HEARTH_CUDA_CHECK(cudaMemset(wide->data(), 0xFF, static_cast<size_t>((wide_pages + 1) * page_bytes)));
      }
    };
    poison();
    // Beside a plan of other windows, as in a model that has both.
    FireAttentionShape other_shape = shape;
    other_shape.window = c.window == 0 ? 100 : 0;
    const DeviceBuffer other_workspace(FireAttention::workspace_bytes(other_shape));
    HEARTH_CUDA_CHECK(
        cudaMemset(other_workspace.data(), 0, static_cast<size_t>(FireAttention::workspace_bytes(other_shape))));
    const FireAttention other(other_shape, {other_workspace.data(), wide_k.data(), wide_v.data()}, multiprocessors);
    const FireAttention* const all[] = {&other, &attention};
    FireAttention::plan(all, batch, nullptr);
    check_plan(attention.built_plan());
    for (int i = 0; i < repeats; ++i) {
      const Status status = attention.run(args, nullptr);
      if (!status.ok()) std::fprintf(stderr, "%s\n", status.message().c_str());
      HEARTH_CHECK(status.ok());
    }
    const auto fetch = [&] {
      HEARTH_CUDA_CHECK(cudaDeviceSynchronize());
      if (!out_e4m3) return from_device(static_cast<const uint16_t*>(device_out.data()), std::ssize(out));
      std::vector<uint16_t> wide;
      for (const E4M3 x : from_device(static_cast<const E4M3*>(device_out.data()), std::ssize(out))) {
        const float value = to_float(x);
        wide.push_back(std::isnan(value) ? 0x7FFF : to_bits(value / c.e4m3_factor));
      }
      return wide;
    };
    const std::vector<uint16_t> result = fetch();
    // As the next layer would, and, where no token is of a prompt, by the launch of such steps.
    const bool any_prompt =
        std::ranges::any_of(c.sequences, [](const CaseSequence& s) { return s.context - s.rows < s.prompt; });
    for (int i = 0; i < 2; ++i) {
      HEARTH_CUDA_CHECK(cudaMemcpy(device_out.data(), out.data(), out.size() * 2, cudaMemcpyHostToDevice));
      poison();
      HEARTH_CHECK(attention.run(args, nullptr, {.prompt = any_prompt}, i == 1).ok());
      if (fetch() != result) std::fprintf(stderr, "attention's next layer gives other bits\n"), std::abort();
    }
    for (const DeviceBuffer* wide : {&wide_k, &wide_v}) {
      const auto behind = from_device(static_cast<const uint8_t*>(wide->data()) + wide_pages * page_bytes, page_bytes);
      HEARTH_CHECK(std::ranges::all_of(behind, [](uint8_t byte) { return byte == 0xFF; }));
    }
    return result;
  }

  void check_plan(const AttentionPlan& plan) const {
    HEARTH_CUDA_CHECK(cudaDeviceSynchronize());
    const AttentionPlanHeader header = from_device(plan.header, 1)[0];
    check_appended(from_device(plan.decode, header.decode_items));
    if (scaled()) {
      check_wide(from_device(plan.wide_pages, header.wide_pages),
                 from_device(plan.wide_tables, static_cast<int64_t>(tables_.size())), plan.wide_capacity);
    }
  }

  // What a step's tokens are appended to must not be read before they are: every item has to name the first such block.
  void check_appended(const std::vector<DecodeItem>& items) const {
    for (const DecodeItem& item : items) {
      const CaseSequence& s = case_.sequences[static_cast<size_t>(item.sequence)];
      HEARTH_CHECK(item.appended == (s.context - s.rows) / kBlockSize);
    }
  }

  // Every block that a prompt's rows may load is widened, to a page of its own, up to the last token of the prompt.
  void check_wide(const std::vector<WidePage>& pages, const std::vector<int32_t>& wide_tables, int64_t capacity) const {
    HEARTH_CHECK(std::ssize(pages) == std::min(prompt_blocks(), capacity));
    if (prompt_blocks() > capacity) return;
    std::vector<bool> taken(pages.size());
    for (size_t s = 0; s < case_.sequences.size(); ++s) {
      const PromptBlocks seen = prompt_blocks(case_.sequences[s]);
      for (int64_t b = seen.begin; b < seen.end; ++b) {
        const size_t at = s * static_cast<size_t>(max_blocks_) + static_cast<size_t>(b);
        const auto page = static_cast<size_t>(wide_tables[at]);
        HEARTH_CHECK(page < pages.size() && !taken[page]);
        taken[page] = true;
        HEARTH_CHECK(pages[page].block == tables_[at]);
        HEARTH_CHECK(pages[page].tokens == std::min(kBlockSize, seen.tokens - b * kBlockSize));
      }
    }
  }

  // The op in double precision for all rows: [tokens, heads, head_dim].
  std::vector<double> reference() const {
    const auto& c = case_;
    const std::vector<float> k = numbers(k_, k_scales_), v = numbers(v_, v_scales_);
    std::vector<double> out(static_cast<size_t>(tokens() * c.heads * c.head_dim));
    for (size_t s = 0; s < c.sequences.size(); ++s) {
      parallel_for(c.sequences[s].rows * c.heads, [&](int64_t i) {
        const int64_t row = query_start_[s] + i / c.heads, head = i % c.heads;
        const int64_t position = contexts_[s] - c.sequences[s].rows + i / c.heads;
        row_reference(k, v, s, row, position, head, &out[static_cast<size_t>((row * c.heads + head) * c.head_dim)]);
      });
    }
    return out;
  }

  // Largest |out - reference| / |reference| over rows and heads (Euclidean norms); infinite where anything is NaN or a
  // row that belongs to nobody was written.
  double error(const std::vector<uint16_t>& out) const {
    const auto want = reference();
    double worst = 0;
    for (int64_t i = 0; i < tokens() * case_.heads; ++i) {
      double difference = 0, norm = 0;
      for (int64_t d = 0; d < case_.head_dim; ++d) {
        const auto at = static_cast<size_t>(i * case_.head_dim + d);
        const double got = from_bits(out[at]);
        difference += (got - want[at]) * (got - want[at]);
        norm += want[at] * want[at];
      }
      const double ratio = std::sqrt(difference / norm);
      if (!(ratio < 1e9)) return std::numeric_limits<double>::infinity();
      worst = std::max(worst, ratio);
    }
    for (size_t i = static_cast<size_t>(tokens() * case_.heads * case_.head_dim); i < out.size(); ++i) {
      if (out[i] != 0x7FFF) return std::numeric_limits<double>::infinity();
    }
    return worst;
  }

  // The bits of a sequence's rows.
  std::vector<uint16_t> rows_of(const std::vector<uint16_t>& out, size_t sequence, int64_t first, int64_t count) const {
    const auto width = case_.heads * case_.head_dim;
    const auto from = out.begin() + (query_start_[sequence] + first) * width;
    return {from, from + count * width};
  }

 private:
  // Blocks that a sequence's prompt rows load: whole tiles of 128 from the first row's first token on, up to the last
  // row at `tokens` - 1.
  struct PromptBlocks {
    int64_t begin = 0, end = 0, tokens = 0;
  };
  PromptBlocks prompt_blocks(const CaseSequence& s) const {
    const int64_t first = s.context - s.rows, tokens = std::min(s.context, s.prompt);
    if (s.rows == 0 || first >= tokens) return {};
    const int64_t visible = case_.window > 0 ? std::max<int64_t>(0, first - case_.window + 1) : 0;
    return {visible / 128 * 2, ceil_div(tokens, kBlockSize), tokens};
  }
  int64_t prompt_blocks() const {
    int64_t sum = 0;
    for (const CaseSequence& s : case_.sequences) sum += prompt_blocks(s).end - prompt_blocks(s).begin;
    return sum;
  }
  template <typename T>
  static std::vector<T> from_device(const T* data, int64_t count) {
    std::vector<T> out(static_cast<size_t>(count));
    HEARTH_CUDA_CHECK(cudaMemcpy(out.data(), data, out.size() * sizeof(T), cudaMemcpyDeviceToHost));
    return out;
  }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(case_.head_dim)); }
  std::vector<float> head_sinks() const {
    std::vector<float> out(static_cast<size_t>(case_.heads));
    for (size_t h = 0; h < out.size(); ++h) out[h] = h % 5 == 3 ? -300.0f : static_cast<float>(h % 7) - 2.5f;
    return out;
  }
  bool scaled() const { return case_.kv == DType::kE4M3; }
  uint16_t to_bits(float x) const { return case_.act == DType::kBF16 ? to_bf16(x).bits : to_f16(x).bits; }
  float from_bits(uint16_t bits) const {
    return case_.act == DType::kBF16 ? to_float(BF16{bits}) : to_float(F16{bits});
  }

  void fill() {
    const auto& c = case_;
    const int64_t width = (c.heads + 2 * c.kv_heads) * c.head_dim;
    qkv_.assign(static_cast<size_t>(tokens_ * width), 0x7FFF);
    const auto cache = static_cast<size_t>(blocks_ * c.kv_heads * kBlockSize * c.head_dim * dtype_size(c.kv));
    k_.assign(cache, scaled() ? 0x7F : 0xFF);  // NaN
    v_ = k_;
    k_scales_.assign(static_cast<size_t>(blocks_ * c.kv_heads * kBlockSize), std::nanf(""));
    v_scales_ = k_scales_;
    for (size_t s = 0; s < c.sequences.size(); ++s) {
      const CaseSequence& sequence = c.sequences[s];
      for (int64_t i = 0; i < sequence.rows; ++i) {
        for (int64_t e = 0; e < c.heads * c.head_dim; ++e) {
          const int64_t position = sequence.context - sequence.rows + i;
          qkv_[static_cast<size_t>((query_start_[s] + i) * width + e)] =
              to_bits(2.0f * case_value(c.seed, 0, sequence.identity, position, e));
        }
      }
      parallel_for(sequence.context, [&](int64_t t) { fill_token(s, t); });
    }
  }

  void fill_token(size_t s, int64_t t) {
    const auto& c = case_;
    const KvLayout layout{c.kv_heads, c.head_dim};
    const int64_t block = tables_[s * max_blocks_ + t / kBlockSize];
    std::vector<float> x(static_cast<size_t>(c.head_dim));
    for (int which = 1; which <= 2; ++which) {
      auto& to = which == 1 ? k_ : v_;
      auto& scales = which == 1 ? k_scales_ : v_scales_;
      for (int64_t h = 0; h < c.kv_heads; ++h) {
        const float spread = 0.25f + static_cast<float>((t * 7 + h) % 16) / 8;  // tokens differ in size
        float largest = 0;
        for (int64_t d = 0; d < c.head_dim; ++d) {
          x[d] = spread * case_value(c.seed, which, c.sequences[s].identity, t, h * c.head_dim + d);
          largest = std::max(largest, std::abs(x[d]));
        }
        const float inverse = largest > 0 ? kE4M3Max / largest : 1;
        scales[layout.row(block, h, t % kBlockSize)] = largest > 0 ? largest / kE4M3Max : 1;
        for (int64_t d = 0; d < c.head_dim; ++d) {
          const auto at = static_cast<size_t>(layout.element(block, h, t % kBlockSize, d));
          if (scaled()) {
            to[at] = to_e4m3(x[d] * inverse).bits;
          } else {
            const uint16_t bits = to_bits(x[d]);
            std::memcpy(&to[2 * at], &bits, 2);
          }
        }
      }
    }
  }

  // The cache as numbers, once for all rows of the reference.
  std::vector<float> numbers(const std::vector<uint8_t>& from, const std::vector<float>& scales) const {
    std::vector<float> out(static_cast<size_t>(blocks_ * case_.kv_heads * kBlockSize * case_.head_dim));
    parallel_for(blocks_ * case_.kv_heads * kBlockSize, [&](int64_t row) {
      for (int64_t d = 0; d < case_.head_dim; ++d) {
        const auto at = static_cast<size_t>(row * case_.head_dim + d);
        uint16_t bits;
        if (!scaled()) std::memcpy(&bits, &from[2 * at], 2);
        out[at] = scaled() ? to_float(E4M3{from[at]}) * scales[static_cast<size_t>(row)] : from_bits(bits);
      }
    });
    return out;
  }

  void row_reference(const std::vector<float>& k, const std::vector<float>& v, size_t s, int64_t row, int64_t position,
                     int64_t head, double* out) const {
    const auto& c = case_;
    const KvLayout layout{c.kv_heads, c.head_dim};
    const int64_t kv_head = head / (c.heads / c.kv_heads);
    const int64_t first = c.window > 0 ? std::max<int64_t>(0, position - c.window + 1) : 0;
    const uint16_t* q = &qkv_[static_cast<size_t>(row * (c.heads + 2 * c.kv_heads) * c.head_dim + head * c.head_dim)];
    std::vector<double> query, logits;
    for (int64_t d = 0; d < c.head_dim; ++d) query.push_back(from_bits(q[d]));
    double top = -1e300, sum = 0;
    const auto place = [&](const std::vector<float>& from, int64_t t) {
      return &from[static_cast<size_t>(layout.row(tables_[s * max_blocks_ + t / kBlockSize], kv_head, t % kBlockSize) *
                                       c.head_dim)];
    };
    for (int64_t t = first; t <= position; ++t) {
      const float* key = place(k, t);
      double dot[4] = {};
      for (int64_t d = 0; d < c.head_dim; ++d) dot[d % 4] += query[static_cast<size_t>(d)] * key[d];
      logits.push_back((dot[0] + dot[1] + dot[2] + dot[3]) * scale());
      top = std::max(top, logits.back());
    }
    std::fill_n(out, c.head_dim, 0.0);
    for (int64_t t = first; t <= position; ++t) {
      const double weight = std::exp(logits[static_cast<size_t>(t - first)] - top);
      sum += weight;
      const float* value = place(v, t);
      for (int64_t d = 0; d < c.head_dim; ++d) out[d] += weight * value[d];
    }
    if (c.sinks) sum += std::exp(head_sinks()[static_cast<size_t>(head)] - top);
    for (int64_t d = 0; d < c.head_dim; ++d) out[d] /= sum;
  }

  AttentionCase case_;
  int64_t tokens_;
  std::vector<int32_t> query_start_, contexts_, prompts_, tables_;
  int64_t blocks_, max_blocks_;
  std::vector<uint16_t> qkv_;
  std::vector<uint8_t> k_, v_;
  std::vector<float> k_scales_, v_scales_;
};

}  // namespace hearth::cuda
