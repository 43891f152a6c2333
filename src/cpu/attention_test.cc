#include <gtest/gtest.h>

#include "cpu/cpu_backend.h"
#include "cpu/quantize.h"
#include "cpu/test_tensors.h"
#include "ops/kv_layout.h"

namespace hearth {
namespace {

struct Model {
  DType act = DType::kF32, kv = DType::kF32;
  int64_t heads = 6, kv_heads = 2, head_dim = 64, window = 0;
  float scale = 0.125f;
  std::vector<float> sinks = {};  // [heads], or none
};

// A sequence of random q, k and v for every position, its pages in a cache that it shares with others.
struct Sequence {
  int64_t length, prompt_len;
  std::vector<float> q, k, v;  // [length, heads or kv_heads, head_dim]
  std::vector<int32_t> blocks;
  Sequence(const Model& m, int64_t length, int64_t prompt_len, uint32_t seed, std::vector<int32_t> blocks)
      : length(length),
        prompt_len(prompt_len),
        q(random_values(length * m.heads * m.head_dim, seed, 2)),
        k(random_values(length * m.kv_heads * m.head_dim, seed + 1)),
        v(random_values(length * m.kv_heads * m.head_dim, seed + 2)),
        blocks(std::move(blocks)) {}
};

constexpr int64_t kBlocks = 40;

class Cache {
 public:
  explicit Cache(const Model& m)
      : model_(m),
        k_(m.kv, {kBlocks, m.kv_heads, kBlockSize, m.head_dim}),
        v_(m.kv, {kBlocks, m.kv_heads, kBlockSize, m.head_dim}),
        k_scales_(DType::kF32, {kBlocks, m.kv_heads, kBlockSize}),
        v_scales_(DType::kF32, {kBlocks, m.kv_heads, kBlockSize}) {}

  KvCacheLayer layer() const {
    if (model_.kv != DType::kE4M3) return {k_, v_, {}, {}};
    return {k_, v_, k_scales_, v_scales_};
  }
  // Everything not put stays NaN.
  void put(const Sequence& s, int64_t begin, int64_t end) {
    const KvLayout layout{model_.kv_heads, model_.head_dim};
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t h = 0; h < model_.kv_heads; ++h) {
        const int64_t row = layout.row(s.blocks[t / kBlockSize], h, t % kBlockSize), n = model_.head_dim;
        store(k_, k_scales_, s.k.data() + (t * model_.kv_heads + h) * n, row);
        store(v_, v_scales_, s.v.data() + (t * model_.kv_heads + h) * n, row);
      }
    }
  }
  double key(const Sequence& s, int64_t t, int64_t head, int64_t d) const { return read(k_, k_scales_, s, t, head, d); }
  double value(const Sequence& s, int64_t t, int64_t head, int64_t d) const {
    return read(v_, v_scales_, s, t, head, d);
  }

 private:
  void store(const OwnedTensor& to, const OwnedTensor& scales, const float* x, int64_t row) {
    const int64_t n = model_.head_dim;
    if (model_.kv == DType::kE4M3) {
      Tensor(scales).as<float>()[row] = quantize_group(x, n, Tensor(to).as<E4M3>() + row * n);
    } else {
      for (int64_t d = 0; d < n; ++d) set_element(to, row * n + d, x[d]);
    }
  }
  double read(const OwnedTensor& from, const OwnedTensor& scales, const Sequence& s, int64_t t, int64_t head,
              int64_t d) const {
    const int64_t row = KvLayout{model_.kv_heads, model_.head_dim}.row(s.blocks[t / kBlockSize], head, t % kBlockSize);
    return double(from[row * model_.head_dim + d]) * (model_.kv == DType::kE4M3 ? scales[row] : 1.0f);
  }
  const Model model_;
  OwnedTensor k_, v_, k_scales_, v_scales_;
};

// The last `rows` positions of each sequence up to `context` in one step; returns [rows, heads * head_dim] a sequence.
struct Chunk {
  const Sequence* sequence;
  int64_t rows, context;
};
std::vector<std::vector<float>> run(const Model& m, const Cache& cache, const std::vector<Chunk>& chunks,
                                    int threads = 2, InputType out_type = {DType::kF32}, float out_factor = 1.0f) {
  const int64_t n = m.head_dim, width = (m.heads + 2 * m.kv_heads) * n;
  int64_t tokens = 0;
  std::vector<int32_t> query_start{0}, context_lens, prompt_lens, tables;
  constexpr int64_t kMaxBlocks = 12;
  for (const Chunk& c : chunks) {
    tokens += c.rows;
    query_start.push_back(static_cast<int32_t>(tokens));
    context_lens.push_back(static_cast<int32_t>(c.context));
    prompt_lens.push_back(static_cast<int32_t>(c.sequence->prompt_len));
    std::vector<int32_t> table = c.sequence->blocks;
    table.resize(static_cast<size_t>(ceil_div(c.context, kBlockSize)));
    table.resize(kMaxBlocks, -7);  // never read
    tables.insert(tables.end(), table.begin(), table.end());
  }
  const OwnedTensor qkv(m.act, {tokens, width});
  for (size_t c = 0; c < chunks.size(); ++c) {
    const auto& [s, rows, context] = chunks[c];
    for (int64_t i = 0; i < rows * m.heads * n; ++i) {
      const int64_t row = i / (m.heads * n);
      set_element(qkv, (query_start[c] + row) * width + i % (m.heads * n), s->q[(context - rows) * m.heads * n + i]);
    }
  }
  const OwnedTensor starts = OwnedTensor::of(query_start), contexts = OwnedTensor::of(context_lens),
                    prompts = OwnedTensor::of(prompt_lens),
                    table = OwnedTensor::of(tables, {static_cast<int64_t>(chunks.size()), kMaxBlocks});
  Batch batch;
  batch.query_start = starts;
  batch.context_lens = contexts;
  batch.prompt_lens = prompts;
  batch.block_tables = table;
  const OwnedActivation out(out_type, tokens, m.heads * n);
  AttentionArgs args{};
  args.qkv = qkv;
  args.batch = &batch;
  args.shape.heads = m.heads;
  args.shape.kv_heads = m.kv_heads;
  args.shape.head_dim = n;
  args.scale = m.scale;
  args.shape.window = m.window;
  args.cache = cache.layer();
  args.out = out;
  args.out_factor = out_factor;
  const OwnedTensor sinks(DType::kF32, {static_cast<int64_t>(m.sinks.size())}, m.sinks);
  if (!m.sinks.empty()) args.sinks = sinks;
  make_cpu_backend(m.act, threads)->ops().attention(args);
  std::vector<std::vector<float>> results;
  for (size_t c = 0; c < chunks.size(); ++c) {
    std::vector<float>& rows = results.emplace_back();
    for (int64_t t = query_start[c]; t < query_start[c + 1]; ++t) {
      for (int64_t i = 0; i < m.heads * n; ++i) rows.push_back(out.value(t, i));
    }
  }
  return results;
}

std::vector<double> reference(const Model& m, const Cache& cache, const Sequence& s, int64_t position, int64_t head) {
  const int64_t n = m.head_dim, kv_head = head / (m.heads / m.kv_heads);
  const int64_t first = m.window > 0 ? std::max<int64_t>(0, position - m.window + 1) : 0;
  const OwnedTensor q(m.act, {n},
                      std::vector<float>(s.q.begin() + (position * m.heads + head) * n,
                                         s.q.begin() + (position * m.heads + head + 1) * n));
  std::vector<double> p, out(n, 0.0);
  double largest = -1e300, sum = 0;
  for (int64_t t = first; t <= position; ++t) {
    double score = 0;
    for (int64_t d = 0; d < n; ++d) {
      score += q[d] * cache.key(s, t, kv_head, d);
    }
    p.push_back(score * m.scale);
    largest = std::max(largest, p.back());
  }
  for (double& x : p) sum += x = std::exp(x - largest);
  if (!m.sinks.empty()) sum += std::exp(double{m.sinks[static_cast<size_t>(head)]} - largest);
  for (int64_t t = first; t <= position; ++t) {
    for (int64_t d = 0; d < n; ++d) out[d] += p[t - first] / sum * cache.value(s, t, kv_head, d);
  }
  return out;
}

void expect_close(const Model& m, const Cache& cache, const Sequence& s, int64_t first_position,
                  const std::vector<float>& got, double tolerance) {
  const int64_t n = m.head_dim, rows = static_cast<int64_t>(got.size()) / (m.heads * n);
  for (int64_t r = 0; r<rows; r += rows> 20 ? 7 : 1) {
    for (int64_t h = 0; h < m.heads; ++h) {
      const std::vector<double> expected = reference(m, cache, s, first_position + r, h);
      for (int64_t d = 0; d < n; ++d) {
        ASSERT_NEAR(got[(r * m.heads + h) * n + d], expected[d], tolerance) << "row " << r << " head " << h;
      }
    }
  }
}

TEST(Attention, AgreesWithDoublePrecision) {
  const std::vector<Model> models = {
      {.heads = 9, .kv_heads = 3},
      {.act = DType::kF16, .kv = DType::kF16, .heads = 4, .kv_heads = 4, .head_dim = 80},
      {.act = DType::kBF16, .kv = DType::kBF16, .heads = 4, .kv_heads = 1, .head_dim = 128, .scale = 0.09f},
      {.kv = DType::kE4M3, .heads = 5, .kv_heads = 1, .head_dim = 72},
      {.heads = 2, .kv_heads = 1, .head_dim = 8, .window = 40},
      {.kv = DType::kE4M3, .head_dim = 32, .window = 100},
      {.heads = 1, .kv_heads = 1, .head_dim = 256, .window = 1},
      {.heads = 6, .kv_heads = 2, .head_dim = 24, .window = 5, .sinks = {0, 3, -90, 120, -INFINITY, 1.5f}},
      {.kv = DType::kE4M3, .heads = 2, .kv_heads = 1, .sinks = {2, -2}},
  };
  for (const Model& m : models) {
    const Sequence a(m, 300, 260, 1, {5, 3, 8, 0, 11}), b(m, 64, 64, 4, {7}), c(m, 1, 1, 7, {2});
    Cache cache(m);
    cache.put(a, 0, 300);
    cache.put(b, 0, 64);
    cache.put(c, 0, 1);
    // 300 to 260: generated tokens, recomputed; b: a whole prompt; c: a single token; and a padding sequence.
    const auto out = run(m, cache, {{&a, 300, 300}, {&b, 64, 64}, {&c, 0, 77}, {&c, 1, 1}});
    expect_close(m, cache, a, 0, out[0], 2e-5);
    expect_close(m, cache, b, 0, out[1], 2e-5);
    expect_close(m, cache, c, 0, out[3], 2e-5);
  }
}

TEST(Attention, ASinkFarBelowChangesNoBit) {
  const Model m{.heads = 2, .kv_heads = 1}, with_sinks{.heads = 2, .kv_heads = 1, .sinks = {-200, -INFINITY}};
  const Sequence s(m, 130, 100, 1, {3, 1, 2});
  Cache cache(m);
  cache.put(s, 0, 130);
  EXPECT_EQ(run(m, cache, {{&s, 130, 130}}), run(with_sinks, cache, {{&s, 130, 130}}));
}

TEST(Attention, OutputIsStoredAsItsReaderWants) {
  const Model m{.act = DType::kF16, .kv = DType::kF16, .heads = 3, .kv_heads = 1};  // 192 channels: a short last group
  const Sequence s(m, 70, 70, 1, {1, 2});
  Cache cache(m);
  cache.put(s, 0, 70);
  const auto exact = run(m, cache, {{&s, 70, 70}}), half = run(m, cache, {{&s, 70, 70}}, 2, {DType::kF16}),
             fp8 = run(m, cache, {{&s, 70, 70}}, 2, {DType::kE4M3}),
             fixed = run(m, cache, {{&s, 70, 70}}, 2, {DType::kE4M3, ActivationScales::kNone}, 100.0f);
  int saturated = 0;
  for (int64_t t = 0; t < 70; ++t) {
    const float* row = exact[0].data() + t * 192;
    for (int64_t i = 0; i < 192; ++i) EXPECT_EQ(half[0][t * 192 + i], to_float(to_f16(row[i])));
    for (int64_t g = 0; g < 192; g += 128) {
      E4M3 q[128];
      const int64_t n = std::min<int64_t>(128, 192 - g);
      const float scale = quantize_group(row + g, n, q);
      for (int64_t i = 0; i < n; ++i) EXPECT_EQ(fp8[0][t * 192 + g + i], to_float(q[i]) * scale);
    }
    for (int64_t i = 0; i < 192; ++i) {
      const float scaled = row[i] * 100.0f, kept = std::clamp(scaled, -kRowE4M3Max, kRowE4M3Max);
      saturated += kept != scaled;
      EXPECT_EQ(fixed[0][t * 192 + i], to_float(to_e4m3(kept)));
    }
  }
  EXPECT_GT(saturated, 0);
}

// However the prompt is cut, whoever is beside it, whatever the number of threads, and whatever the rest of a page
// holds.
TEST(Attention, BitsDependOnTheSequenceAlone) {
  for (const Model& m :
       {Model{}, Model{.kv = DType::kE4M3, .window = 90}, Model{.act = DType::kF16, .kv = DType::kF16}}) {
    const int64_t length = 230, prompt_len = 150, row_floats = m.heads * m.head_dim;
    const Sequence s(m, length, prompt_len, 1, {4, 9, 1, 30}), other(m, 500, 480, 9, {2, 3, 5, 6, 7, 8, 10, 11});
    Cache whole(m);
    whole.put(s, 0, length);
    const std::vector<float> expected = run(m, whole, {{&s, length, length}}, 1)[0];
    ASSERT_FALSE(std::isnan(expected[0]));
    for (const std::vector<int64_t>& cuts : std::vector<std::vector<int64_t>>{
             {7, 64, 65, 128, 149, 150, 151, 200}, {1, 2, 3, 130, 229}, {150}, {16, 32, 48, 64, 150, 190}}) {
      Cache cache(m);  // holds what each chunk may see, and NaN beyond
      cache.put(other, 0, 500);
      std::vector<int64_t> ends = cuts;
      ends.push_back(length);
      int64_t begin = 0;
      std::vector<float> got;
      for (const int64_t end : ends) {
        cache.put(s, begin, end);
        const auto rows = run(m, cache, {{&other, 33, 500}, {&s, end - begin, end}, {&other, 1, 470}}, 3)[1];
        got.insert(got.end(), rows.begin(), rows.end());
        begin = end;
      }
      for (int64_t i = 0; i < length; ++i) {
        for (int64_t d = 0; d < row_floats; ++d) {
          ASSERT_EQ(got[i * row_floats + d], expected[i * row_floats + d]) << "position " << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace hearth
