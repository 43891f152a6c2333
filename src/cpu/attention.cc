// attention: paged, grouped-query, causal; the contract is ops/kv_layout.h. Prompt tokens walk the blocks with a
// running softmax; a generated token merges blocks along a binary tree.
#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/cpu_ops.h"
#include "cpu/float_types.h"
#include "cpu/quantize.h"
#include "cpu/simd.h"
#include "ops/kv_layout.h"

namespace hearth {
namespace {

using simd::kLanes;
using simd::Lanes;
using simd::load_some;
using simd::splat;

// Rows of one sequence that share their widened keys and values: prompt tokens; a generated token is alone.
constexpr int64_t kMaxRows = 16;
struct RowBlock {
  int64_t sequence, row, rows, position;  // `position` of the first row
  bool prompt;
};

std::vector<RowBlock> row_blocks(const Batch& batch) {
  std::vector<RowBlock> out;
  const int32_t* query_start = batch.query_start.as<int32_t>();
  for (int64_t s = 0; s < batch.query_start.dim(0) - 1; ++s) {
    const int64_t end = query_start[s + 1];
    for (int64_t row = query_start[s]; row < end;) {
      const int64_t position = batch.context_lens.as<int32_t>()[s] - (end - row);
      const int64_t prompt_rows = batch.prompt_lens.as<int32_t>()[s] - position;
      const int64_t rows = prompt_rows > 0 ? std::min({prompt_rows, end - row, kMaxRows}) : 1;
      out.push_back({s, row, rows, position, prompt_rows > 0});
      row += rows;
    }
  }
  return out;
}

// Softmax-weighted values of some tokens, relative to their largest score.
struct Partial {
  float* values;  // [head_dim], padded to whole vectors
  float largest, sum;
};

void clear(Partial& a, int64_t padded) {
  std::fill_n(a.values, padded, 0.0f);
  a.largest = -std::numeric_limits<float>::infinity();
  a.sum = 0;
}

void merge(Partial& a, const Partial& b, int64_t padded) {
  const float largest = std::max(a.largest, b.largest);
  const float wa = simd::exp(a.largest - largest), wb = simd::exp(b.largest - largest);
  a.sum = a.sum * wa + b.sum * wb;
  for (int64_t d = 0; d < padded; d += kLanes) {
    simd::store(a.values + d, fma(simd::load(b.values + d), splat(wb), simd::load(a.values + d) * splat(wa)));
  }
  a.largest = largest;
}

// Keys and values of a block for one head; only tokens that a row may see are read.
template <typename T>
struct KvTile {
  const T *k, *v;                    // [64, head_dim]
  const float *k_scales, *v_scales;  // [64], or null
};

// values = values * decay + sum over tokens [begin, end) of p[j] * v[j], for columns [d, d + 16 * N).
template <int N, typename T>
void add_values(float* values, const T* v, int64_t stride, int64_t columns, const float* p, int64_t begin, int64_t end,
                float decay) {
  Lanes sum[N];
  for (int i = 0; i < N; ++i) sum[i] = simd::load(values + i * kLanes) * splat(decay);
  for (int64_t j = begin; j < end; ++j) {
    const Lanes weight = splat(p[j]);
    for (int i = 0; i < N; ++i) {
      const T* at = v + j * stride + i * kLanes;
      sum[i] = fma(weight, N == 1 ? load_some(at, columns) : simd::load(at), sum[i]);
    }
  }
  for (int i = 0; i < N; ++i) simd::store(values + i * kLanes, sum[i]);
}

// One step of the running softmax: tokens [begin, end) of a block.
template <typename T>
void add_block(Partial& a, const float* q, const KvTile<T>& kv, int64_t n, int64_t begin, int64_t end, float scale) {
  alignas(64) float p[kBlockSize];
  std::fill_n(p, kBlockSize, -std::numeric_limits<float>::infinity());
  float largest = a.largest;
  for (int64_t j = begin; j < end; ++j) {
    p[j] = simd::dot(q, kv.k + j * n, n) * (kv.k_scales ? kv.k_scales[j] * scale : scale);
    largest = std::max(largest, p[j]);
  }
  Lanes sum = splat(0);
  for (int64_t j = 0; j < kBlockSize; j += kLanes) {
    const Lanes e = simd::exp(simd::load(p + j) - splat(largest));
    simd::store(p + j, e);
    sum = sum + e;
  }
  const float decay = simd::exp(a.largest - largest);
  a.sum = a.sum * decay + simd::reduce_add(sum);
  a.largest = largest;
  if (kv.v_scales) {
    for (int64_t j = begin; j < end; ++j) p[j] *= kv.v_scales[j];
  }
  int64_t d = 0;
  for (; d + 4 * kLanes <= n; d += 4 * kLanes) add_values<4>(a.values + d, kv.v + d, n, n - d, p, begin, end, decay);
  for (; d < n; d += kLanes) add_values<1>(a.values + d, kv.v + d, n, n - d, p, begin, end, decay);
}

// The scratch memory of a thread, cut up.
struct Workspace {
  static constexpr int kLevels = 32;
  int64_t padded;
  float* q;       // [kMaxRows, padded]
  float* values;  // [kLevels, padded]
  float *k, *v;   // [64, head_dim] each

  static int64_t floats(int64_t head_dim) { return (kMaxRows + kLevels) * pad(head_dim) + 2 * kBlockSize * head_dim; }
  Workspace(float* memory, int64_t head_dim) : padded(pad(head_dim)) {
    q = memory;
    values = q + kMaxRows * padded;
    k = values + kLevels * padded;
    v = k + kBlockSize * head_dim;
  }
  static int64_t pad(int64_t head_dim) { return ceil_div(head_dim, kLanes) * kLanes; }
};

template <typename T>
class HeadAttention {
 public:
  HeadAttention(const AttentionArgs& args, const RowBlock& rows, int64_t head, Workspace& space)
      : args_(args),
        rows_(rows),
        space_(space),
        n_(args.shape.head_dim),
        kv_head_(head / (args.shape.heads / args.shape.kv_heads)),
        sink_(args.sinks ? args.sinks.as<float>()[head] : -std::numeric_limits<float>::infinity()) {}

  // Leaves row r's result in space.values + r * padded.
  void run() {
    if (rows_.prompt) {
      walk();
    } else {
      const int64_t last = rows_.position / kBlockSize;
      int level = 0;
      while ((last >> level) > 0) ++level;
      Partial root = fold(level, 0, 0);
      finish(root);
    }
  }

 private:
  int64_t first_visible(int64_t position) const {
    return args_.shape.window > 0 ? std::max<int64_t>(0, position - args_.shape.window + 1) : 0;
  }

  KvTile<T> tile(int64_t index) const {
    const Tensor& tables = args_.batch->block_tables;
    const int64_t block = tables.as<int32_t>()[rows_.sequence * tables.dim(1) + index];
    HEARTH_CHECK(block >= 0 && block < args_.cache.k.dim(0));
    const int64_t row = KvLayout{args_.shape.kv_heads, n_}.row(block, kv_head_);
    const bool scaled = args_.cache.k.dtype == DType::kE4M3;
    return {args_.cache.k.as<T>() + row * n_, args_.cache.v.as<T>() + row * n_,
            scaled ? args_.cache.k_scales.as<float>() + row : nullptr,
            scaled ? args_.cache.v_scales.as<float>() + row : nullptr};
  }

  // What of block `index` the row at `position` sees, added to `a`.
  template <typename U>
  void add(Partial& a, const float* q, const KvTile<U>& kv, int64_t index, int64_t position) const {
    const int64_t start = index * kBlockSize;
    const int64_t begin = std::max<int64_t>(0, first_visible(position) - start);
    const int64_t end = std::min(kBlockSize, position + 1 - start);
    if (begin < end) add_block(a, q, kv, n_, begin, end, args_.scale);
  }

  void walk() {
    const int64_t last_position = rows_.position + rows_.rows - 1;
    Partial rows[kMaxRows];
    for (int64_t r = 0; r < rows_.rows; ++r) {
      rows[r].values = space_.values + r * space_.padded;
      clear(rows[r], space_.padded);
    }
    for (int64_t index = first_visible(rows_.position) / kBlockSize; index <= last_position / kBlockSize; ++index) {
      const KvTile<T> stored = tile(index);
      const int64_t end = std::min(kBlockSize, last_position + 1 - index * kBlockSize);
      simd::convert(stored.k, space_.k, end * n_);
      simd::convert(stored.v, space_.v, end * n_);
      const KvTile<float> kv{space_.k, space_.v, stored.k_scales, stored.v_scales};
      for (int64_t r = 0; r < rows_.rows; ++r)
        add(rows[r], space_.q + r * space_.padded, kv, index, rows_.position + r);
    }
    for (int64_t r = 0; r < rows_.rows; ++r) finish(rows[r]);
  }

  bool exists(int level, int64_t i) const {
    const int64_t first = first_visible(rows_.position) / kBlockSize, last = rows_.position / kBlockSize;
    return (i << level) <= last && ((i + 1) << level) > first;
  }

  // Node i of a level of the tree; its values stand at `slot`, those of right children still to be merged beyond it.
  Partial fold(int level, int64_t i, int slot) {
    HEARTH_CHECK(slot < Workspace::kLevels);
    if (level == 0) {
      Partial leaf{space_.values + slot * space_.padded, 0, 0};
      clear(leaf, space_.padded);
      add(leaf, space_.q, tile(i), i, rows_.position);
      return leaf;
    }
    if (!exists(level - 1, 2 * i)) return fold(level - 1, 2 * i + 1, slot);
    Partial node = fold(level - 1, 2 * i, slot);
    if (exists(level - 1, 2 * i + 1)) merge(node, fold(level - 1, 2 * i + 1, slot + 1), space_.padded);
    return node;
  }

  void finish(const Partial& a) const {
    const Lanes sum = splat(a.sum + simd::exp(sink_ - a.largest)), factor = splat(args_.out_factor);
    for (int64_t d = 0; d < space_.padded; d += kLanes) {
      simd::store(a.values + d, simd::load(a.values + d) / sum * factor);
    }
  }

  const AttentionArgs& args_;
  const RowBlock& rows_;
  Workspace& space_;
  const int64_t n_, kv_head_;
  const float sink_;
};

}  // namespace

void CpuOps::attention(const AttentionArgs& args) {
  const int64_t n = args.shape.head_dim, q_stride = (args.shape.heads + 2 * args.shape.kv_heads) * n;
  HEARTH_CHECK(args.shape.heads % args.shape.kv_heads == 0 && n % 8 == 0 && args.qkv.dim(1) == q_stride);
  const std::vector<RowBlock> blocks = row_blocks(*args.batch);
  // A scale of the output may cover channels of several heads: whole rows are gathered before they are quantized.
  Activation heads_out = args.out;
  if (args.out.scales) {
    heads_out.data = {step_.reserve(args.out.data.shape.elements()), DType::kF32, args.out.data.shape};
  }
  const int64_t items = static_cast<int64_t>(blocks.size()) * args.shape.heads;
  pool_.run(items, [&](int64_t begin, int64_t end, int thread) {
    Workspace space(scratch_[thread].rows.reserve(Workspace::floats(n)), n);
    for (int64_t item = begin; item < end; ++item) {
      const RowBlock& rows = blocks[static_cast<size_t>(item) % blocks.size()];
      const int64_t head = item / static_cast<int64_t>(blocks.size());
      visit_act(args.qkv.dtype, [&]<typename Act>(Act) {
        for (int64_t r = 0; r < rows.rows; ++r) {
          simd::convert(args.qkv.as<Act>() + (rows.row + r) * q_stride + head * n, space.q + r * space.padded, n);
        }
      });
      visit_float(args.cache.k.dtype, [&]<typename T>(T) { HeadAttention<T>(args, rows, head, space).run(); });
      for (int64_t r = 0; r < rows.rows; ++r) {
        store_activation(space.values + r * space.padded, n, heads_out, rows.row + r, head * n);
      }
    }
  });
  if (heads_out.data.data != args.out.data.data) {
    const int64_t dim = args.out.data.dim(1);
    pool_.run(args.out.data.dim(0), [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) store_activation(heads_out.data.as<float>() + t * dim, dim, args.out, t);
    });
  }
}

}  // namespace hearth
