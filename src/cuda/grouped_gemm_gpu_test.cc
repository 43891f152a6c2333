#include "cuda/grouped_gemm.h"

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <thread>
#include <vector>

#include "cuda/check.h"
#include "cuda/few_rows_gemm.h"
#include "cuda/weight_tiles.h"
#include "cuda/weight_units.h"
#include "tensor/dtype.h"

namespace hearth::cuda {
namespace {

template <typename T>
class OnDevice {
 public:
  explicit OnDevice(const std::vector<T>& host) : size_(host.size()) {
    HEARTH_CUDA_CHECK(cudaMalloc(&data_, size_ * sizeof(T)));
    HEARTH_CUDA_CHECK(cudaMemcpy(data_, host.data(), size_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  // Poisoned: every byte 0xFF, a NaN in every type.
  explicit OnDevice(size_t size) : OnDevice(std::vector<T>(size)) { poison(); }
  ~OnDevice() { cudaFree(data_); }
  OnDevice(const OnDevice&) = delete;
  void poison() { HEARTH_CUDA_CHECK(cudaMemset(data_, 0xFF, size_ * sizeof(T))); }
  T* get() const { return data_; }
  std::vector<T> read() const {
    std::vector<T> out(size_);
    HEARTH_CUDA_CHECK(cudaMemcpy(out.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost));
    return out;
  }

 private:
  T* data_ = nullptr;
  size_t size_;
};

uint16_t encode16(DType t, float f) { return t == DType::kBF16 ? to_bf16(f).bits : to_f16(f).bits; }
float decode(DType t, const uint8_t* at) {
  uint16_t bits;
  float f;
  switch (t) {
    case DType::kE4M3: return to_float(E4M3{*at});
    case DType::kF32: memcpy(&f, at, 4); return f;
    default: memcpy(&bits, at, 2); return t == DType::kBF16 ? to_float(BF16{bits}) : to_float(F16{bits});
  }
}

struct Shape {
  DType dtype;
  Epilogue epilogue;
  DType out;
  WeightScales scales;
  std::vector<int> group_rows;
  int64_t n, k;
  int gap = 0;  // unused rows before each group
  bool bias = false;
  enum class Scales { kPer128, kRow, kNone } x_scales = Scales::kPer128;
  bool per_128() const { return x_scales == Scales::kPer128; }
};

// Values as the kernel sees them and as float32 for the reference.
struct Matrix {
  std::vector<uint8_t> bytes;
  std::vector<float> values;
};

// e4m3: of this deviation, and at most kRowE4M3Max where that is meant to.
constexpr float kDeviation = 60, kRowDeviation = 20;

Matrix random_matrix(DType t, int64_t size, std::mt19937& random, float deviation = kDeviation) {
  std::normal_distribution<float> normal;
  Matrix m;
  m.bytes.resize(static_cast<size_t>(size * dtype_size(t)));
  m.values.resize(static_cast<size_t>(size));
  for (size_t i = 0; i < m.values.size(); ++i) {
    if (t == DType::kE4M3) {
      const float most = deviation == kRowDeviation ? kRowE4M3Max : kE4M3Max;
      m.bytes[i] = to_e4m3(std::clamp(normal(random) * deviation, -most, most)).bits;
    } else {
      const uint16_t bits = encode16(t, normal(random));
      memcpy(&m.bytes[2 * i], &bits, 2);
    }
    m.values[i] = decode(t, &m.bytes[i * static_cast<size_t>(dtype_size(t))]);
  }
  return m;
}

// Products of what they scale are about as large as `size_of_values`.
std::vector<float> random_scales(int64_t size, float size_of_values, std::mt19937& random) {
  std::uniform_real_distribution<float> uniform(0.2f, 2.0f);
  std::vector<float> out(static_cast<size_t>(size));
  for (float& f : out) f = uniform(random) * size_of_values / kDeviation;
  return out;
}

constexpr float kLimit = 1.0f, kAlpha = 1.702f;  // of a clamped SwiGLU; the limit is reached often

// Inputs of one product on host and device.
class Problem {
 public:
  Problem(const Shape& s, uint32_t seed) : shape(s), random(seed) {
    for (int count : s.group_rows) {
      rows += s.gap;
      starts.push_back(rows);
      ends.push_back(rows += count);
    }
    rows += s.gap + 1;  // at least one row, also where every group is empty
    groups = static_cast<int64_t>(s.group_rows.size());
    stride = (rows + 3) / 4 * 4 + 4;
    k_blocks = (s.k + 127) / 128;
    n_blocks = is_swiglu(s.epilogue) ? (s.n + 255) / 256 * 2 : (s.n + 127) / 128;
    const float deviation = s.per_128() ? kDeviation : kRowDeviation;
    x = random_matrix(s.dtype, rows * s.k, random, deviation);
    w = random_matrix(s.dtype, groups * s.n * s.k, random);
    const float unit = s.dtype == DType::kE4M3 && !s.per_128() ? bring_to_units() : 1.0f;
    if (s.dtype == DType::kE4M3) {
      if (s.x_scales != Shape::Scales::kNone)
        x_scales = random_scales((s.per_128() ? k_blocks : 1) * stride, kDeviation / deviation, random);
      // SwiGLU fits f16, and e4m3 without scales but for a few.
      const float size = unit * (s.out == DType::kE4M3 && !s.per_128() ? 0.05f : 0.25f);
      w_scales = random_scales(groups * (s.scales == WeightScales::kBlock ? n_blocks * k_blocks : s.n),
                               s.x_scales == Shape::Scales::kNone ? size / deviation : size, random);
    }
    if (s.bias)
      for (int64_t i = 0; i < groups * s.n; ++i)
        bias.push_back(encode16(s.out, std::normal_distribution<float>()(random)));
  }

  // All of w in the largest unit that one of its rows needs; returns it.
  float bring_to_units() {
    float largest = 0;
    for (int64_t row = 0; row < groups * shape.n; ++row) {
      largest = std::max(largest, norm_squared(&w.values[static_cast<size_t>(row * shape.k)], shape.k));
    }
    const float unit = weight_unit(largest);
    for (size_t i = 0; i < w.values.size(); ++i) {
      w.bytes[i] = to_e4m3(w.values[i] / unit).bits;
      w.values[i] = to_float(E4M3{w.bytes[i]});
    }
    return unit;
  }

  int64_t x_scale_at(int64_t block, int64_t row) const { return (shape.per_128() ? block * stride : 0) + row; }
  // Gate and up, in turns of eight rows, have blocks of 128 rows each, in turns too.
  int64_t scale_block(int64_t column) const {
    return is_swiglu(shape.epilogue) ? column / 256 * 2 + column / 8 % 2 : column / 128;
  }
  int64_t out_columns() const { return is_swiglu(shape.epilogue) ? shape.n / 2 : shape.n; }

  // The weight row's sum for row r of group g, in float64.
  double dot(int64_t g, int64_t r, int64_t column) const {
    double total = 0;
    const float* xs = &x.values[static_cast<size_t>(r * shape.k)];
    const float* ws = &w.values[static_cast<size_t>((g * shape.n + column) * shape.k)];
    for (int64_t b = 0; b < k_blocks; ++b) {
      double partial = 0;
      for (int64_t i = b * 128; i < std::min(shape.k, b * 128 + 128); ++i) partial += double{xs[i]} * ws[i];
      if (!x_scales.empty()) partial *= x_scales[static_cast<size_t>(x_scale_at(b, r))];
      if (shape.scales == WeightScales::kBlock)
        partial *= w_scales[static_cast<size_t>((g * n_blocks + scale_block(column)) * k_blocks + b)];
      total += partial;
    }
    if (shape.scales == WeightScales::kChannel) total *= w_scales[static_cast<size_t>(g * shape.n + column)];
    if (!bias.empty()) {
      const uint16_t bits = bias[static_cast<size_t>(g * shape.n + column)];
      total += shape.out == DType::kBF16 ? to_float(BF16{bits}) : to_float(F16{bits});
    }
    return total;
  }
  // The element, and how much it moves when the sums behind it move by 1.
  struct Expected {
    double value, slope;
  };
  Expected expected(int64_t g, int64_t r, int64_t c) const {
    if (shape.epilogue == Epilogue::kStore) return {dot(g, r, c), 1};
    const int64_t gate_row = c / 8 * 16 + c % 8;
    const double gate = dot(g, r, gate_row), up = dot(g, r, gate_row + 8);
    if (shape.epilogue == Epilogue::kClampedSwiglu) {
      const double g = std::min<double>(gate, kLimit), u = std::clamp<double>(up, -kLimit, kLimit);
      const double glu = g / (1 + std::exp(-kAlpha * g));
      return {glu * (u + 1), 1.1 * std::abs(u + 1) + std::abs(glu)};
    }
    const double silu = gate / (1 + std::exp(-gate));
    const double most = shape.out == DType::kE4M3 ? kRowE4M3Max : INFINITY;
    return {std::clamp(silu * up, -most, most), 1.1 * std::abs(up) + std::abs(silu)};
  }

  Shape shape;
  std::mt19937 random;
  int rows = 0;
  int64_t groups, stride, k_blocks, n_blocks;
  std::vector<int32_t> starts, ends;
  Matrix x, w;
  std::vector<float> x_scales, w_scales;
  std::vector<uint16_t> bias;
};

// As the kernel reads them.
std::vector<uint8_t> tiled_weights(const Problem& p) {
  const int64_t row_bytes = p.shape.k * dtype_size(p.shape.dtype), matrix = weight_bytes(p.shape.n, row_bytes);
  std::vector<uint8_t> out(static_cast<size_t>(p.groups * matrix));
  for (int64_t g = 0; g < p.groups; ++g) {
    for (int64_t row = 0; row < p.shape.n; ++row) {
      for (int64_t byte = 0; byte < row_bytes; byte += 64) {
        memcpy(&out[static_cast<size_t>(g * matrix + weight_offset(row, byte, row_bytes))],
               &p.w.bytes[static_cast<size_t>((g * p.shape.n + row) * row_bytes + byte)], 64);
      }
    }
  }
  return out;
}

struct Output {
  std::vector<uint8_t> y;
};

template <typename Tile = GroupedGemmTile>
Output run(const Problem& p, const Tile* tile = nullptr, int64_t max_group = 0) {
  const Shape& s = p.shape;
  OnDevice<uint8_t> x(p.x.bytes), w(tiled_weights(p));
  OnDevice<float> x_scales(p.x_scales), w_scales(p.w_scales);
  OnDevice<uint16_t> bias(p.bias);
  OnDevice<int32_t> starts(p.starts), ends(p.ends);
  OnDevice<uint8_t> y(static_cast<size_t>(p.rows * p.out_columns() * dtype_size(s.out)));
  GroupedGemm args{s.dtype, s.epilogue, s.out, s.scales, p.groups, s.n, s.k, p.rows};
  args.max_group = max_group;
  args.x_row_scales = s.dtype == DType::kE4M3 && !s.per_128();
  args.x = x.get(), args.w = w.get(), args.y = y.get();
  args.starts = starts.get(), args.ends = ends.get();
  if (s.dtype == DType::kE4M3) args.w_scales = w_scales.get();
  if (!p.x_scales.empty()) args.x_scales = x_scales.get(), args.x_scale_stride = p.stride;
  if (s.bias) args.bias = bias.get();
  args.swiglu_limit = kLimit, args.swiglu_alpha = kAlpha;
  const Status status = tile ? grouped_gemm(args, *tile, nullptr) : grouped_gemm(args, nullptr);
  EXPECT_TRUE(status.ok()) << status.message();
  HEARTH_CUDA_CHECK(cudaDeviceSynchronize());
  return {y.read()};
}

// Every row outside the groups must still be poisoned; inside, sampled columns are compared: each error within a bound
// for its type, and the whole relative error ||out - ref|| / ||ref|| within a smaller one.
void check(const Problem& p, const Output& out) {
  const Shape& s = p.shape;
  const int64_t columns = p.out_columns(), size = dtype_size(s.out);
  std::vector<int64_t> group_of(static_cast<size_t>(p.rows), -1);
  for (int64_t g = 0; g < p.groups; ++g)
    for (int r = p.starts[g]; r < p.ends[g]; ++r) group_of[r] = g;
  const double work = double(p.rows) * s.n * s.k;
  const int64_t sample = std::max<int64_t>(1, static_cast<int64_t>(work / 4e8));
  struct Tally {
    double error = 0, norm = 0;
    int64_t bad = 0, unwritten = 0, overwritten = 0;
    std::string first;
  };
  std::vector<Tally> tallies(std::max(1u, std::thread::hardware_concurrency()));
  const auto check_rows = [&](size_t worker) {
    Tally& t = tallies[worker];
    for (int64_t r = static_cast<int64_t>(worker); r < p.rows; r += static_cast<int64_t>(tallies.size())) {
      const int64_t g = group_of[r];
      for (int64_t c = 0; c < columns; ++c) {
        const uint8_t* at = &out.y[static_cast<size_t>((r * columns + c) * size)];
        bool poisoned = true;
        for (int64_t i = 0; i < size; ++i) poisoned = poisoned && at[i] == 0xFF;
        if (g < 0) {
          t.overwritten += !poisoned;
          continue;
        }
        if (poisoned) ++t.unwritten;
        if ((c + r * 7) % sample) continue;
        const auto [want, slope] = p.expected(g, r, c);
        const double sum_error = slope * (s.dtype == DType::kE4M3 ? 6e-3 : 1e-4) * std::sqrt(double(s.k));
        double got = decode(s.out, at), rounding;
        if (s.out == DType::kE4M3) {
          rounding = std::abs(want) * 0.066 + 0x1p-9;  // half a step of 3 mantissa bits, or of the subnormals
        } else {
          rounding = std::abs(want) * (s.out == DType::kBF16 ? 0x1p-8 : s.out == DType::kF16 ? 0x1p-11 : 0x1p-20);
        }
        const double bound = rounding + sum_error;
        t.error += (got - want) * (got - want);
        t.norm += want * want;
        if (!(std::abs(got - want) <= bound) && t.bad++ == 0)
          t.first = cat("row ", r, " column ", c, " group ", g, ": ", got, " for ", want);
      }
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 0; i < tallies.size(); ++i) threads.emplace_back(check_rows, i);
  for (auto& thread : threads) thread.join();
  Tally all;
  for (const Tally& t : tallies) {
    all.error += t.error, all.norm += t.norm, all.bad += t.bad;
    all.unwritten += t.unwritten, all.overwritten += t.overwritten;
    if (all.first.empty()) all.first = t.first;
  }
  EXPECT_EQ(all.unwritten, 0);
  EXPECT_EQ(all.overwritten, 0);
  EXPECT_EQ(all.bad, 0) << all.first;
  // The tensor core's own sums of e4m3 products keep about 14 bits.
  // Each with an error of its own. A clamped SwiGLU cuts off what is large, and leaves the error of what is not.
  const double factors = s.epilogue == Epilogue::kClampedSwiglu ? 5 : is_swiglu(s.epilogue) ? 2 : 1;
  const double sums = factors * (s.dtype == DType::kE4M3 ? 1e-3 : 1e-4);
  const double rounding = s.out == DType::kE4M3   ? 0.04
                          : s.out == DType::kBF16 ? 2.5e-3
                          : s.out == DType::kF16  ? 5e-4
                                                  : 0;
  const double limit = rounding + sums;
  EXPECT_LE(std::sqrt(all.error / std::max(all.norm, 1e-30)), limit);
}

// The kernels there are: types, epilogue, kind of weight scales, gap between groups, bias, scales of x.
std::vector<Shape> kinds() {
  using enum DType;
  const auto store = Epilogue::kStore, swiglu = Epilogue::kSwiglu, clamped = Epilogue::kClampedSwiglu;
  const auto row = Shape::Scales::kRow, none = Shape::Scales::kNone;
  return {{kE4M3, store, kBF16, WeightScales::kChannel, {}, 0, 0},
          {kE4M3, store, kF16, WeightScales::kBlock, {}, 0, 0, 3, true},
          {kE4M3, swiglu, kF16, WeightScales::kChannel, {}, 0, 0, 5},
          {kE4M3, swiglu, kBF16, WeightScales::kBlock, {}, 0, 0},
          {kE4M3, store, kBF16, WeightScales::kChannel, {}, 0, 0, 2, true, row},
          {kE4M3, store, kF16, WeightScales::kChannel, {}, 0, 0, 0, false, row},
          {kE4M3, store, kBF16, WeightScales::kChannel, {}, 0, 0, 3, false, none},
          {kE4M3, swiglu, kBF16, WeightScales::kChannel, {}, 0, 0, 0, false, row},
          {kE4M3, swiglu, kF16, WeightScales::kChannel, {}, 0, 0, 5, false, row},
          {kE4M3, swiglu, kE4M3, WeightScales::kChannel, {}, 0, 0, 4, false, row},
          {kBF16, store, kBF16, WeightScales::kNone, {}, 0, 0, 1, true},
          {kBF16, store, kF32, WeightScales::kNone, {}, 0, 0},
          {kBF16, swiglu, kBF16, WeightScales::kNone, {}, 0, 0, 2},
          {kF16, store, kF16, WeightScales::kNone, {}, 0, 0},
          {kF16, store, kF32, WeightScales::kNone, {}, 0, 0},
          {kF16, swiglu, kF16, WeightScales::kNone, {}, 0, 0, 9},
          {kE4M3, clamped, kBF16, WeightScales::kChannel, {}, 0, 0, 0, true, row},
          {kE4M3, clamped, kF16, WeightScales::kChannel, {}, 0, 0, 3, true, row},
          {kBF16, clamped, kBF16, WeightScales::kNone, {}, 0, 0, 0, true},
          {kF16, clamped, kF16, WeightScales::kNone, {}, 0, 0, 2, true}};
}

class GroupedGemmKind : public testing::TestWithParam<Shape> {
 protected:
  static Shape shape(std::vector<int> rows, int64_t n, int64_t k) {
    Shape s = GetParam();
    s.group_rows = std::move(rows), s.n = n, s.k = k;
    return s;
  }
  static void check_shape(const std::vector<int>& rows, int64_t n, int64_t k) {
    for (uint32_t seed : {1u, 2u}) {
      const Problem problem(shape(rows, n, k), seed * 1000 + static_cast<uint32_t>(n + k));
      check(problem, run(problem));
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Kinds, GroupedGemmKind, testing::ValuesIn(kinds()), [](const auto& info) {
  const Shape& s = info.param;
  const std::string scales = cat(s.x_scales == Shape::Scales::kRow    ? "_row"
                                 : s.x_scales == Shape::Scales::kNone ? "_unscaled"
                                                                      : "",
                                 s.scales == WeightScales::kBlock ? "_block" : "");
  const char* epilogue = s.epilogue == Epilogue::kClampedSwiglu ? "_clamped_"
                         : is_swiglu(s.epilogue)                ? "_swiglu_"
                                                                : "_to_";
  return cat(dtype_name(s.dtype), epilogue, dtype_name(s.out), scales);
});

TEST_P(GroupedGemmKind, SmallRaggedGroups) { check_shape({3, 0, 1, 17}, 256, 192); }
TEST_P(GroupedGemmKind, SmallOneTokenShortLastBlock) { check_shape({1}, 64, 64); }
TEST_P(GroupedGemmKind, SmallSixteenWeightRows) { check_shape({5, 20}, 16, 128); }
TEST_P(GroupedGemmKind, SmallAsManyGroupsAsThereMayBe) {
  std::vector<int> rows(256);
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int>(i % 3);
  check_shape(rows, 32, 64);
}
TEST_P(GroupedGemmKind, RaggedGroups) { check_shape({0, 1, 33, 8, 0, 129, 64, 290}, 768, 1088); }
TEST_P(GroupedGemmKind, GroupsOfManyPieces) { check_shape({700, 5, 1000}, 512, 512); }
TEST_P(GroupedGemmKind, WeightRowsShortOfATile) { check_shape({40, 300}, 400, 320); }
TEST_P(GroupedGemmKind, AllEmpty) { check_shape({0, 0, 0}, 256, 128); }

TEST_P(GroupedGemmKind, EveryWidth) {
  std::vector<int> rows;
  for (int i = 4; i <= 288; i += 8) rows.push_back(i);
  const Problem problem(shape(rows, 384, 256), 5);
  check(problem, run(problem));
}

TEST_P(GroupedGemmKind, EveryTileGivesTheSameBits) {
  const Problem problem(shape({70, 5, 0, 300, 64}, 640, 704), 7);
  const Output want = run(problem);
  check(problem, want);
  for (int warpgroups : {1, 2})
    for (int cluster : {1, 2})
      for (int piece : {8, 40, 64, 128, 160, 240, 288}) {
        if (piece > (warpgroups == 1 ? 64 : cluster == 1 ? 160 : 288)) continue;
        const GroupedGemmTile tile{warpgroups, cluster, piece, stages_that_fit(problem.shape.dtype, warpgroups, piece)};
        const Output got = run(problem, &tile);
        EXPECT_EQ(got.y, want.y) << "tile " << warpgroups << " " << cluster << " " << piece;
      }
}

GroupedGemmTile large_tile(const Shape& s) { return {2, 1, 64, stages_that_fit(s.dtype, 2, 64)}; }

// The kernel for few rows, whatever it shares out among how many CTAs, gives the large tiles' bits.
void check_few_rows(const Problem& problem, std::initializer_list<FewRowsTile> tiles) {
  const Shape& s = problem.shape;
  const int most = *std::max_element(s.group_rows.begin(), s.group_rows.end());
  const GroupedGemmTile large = large_tile(s);
  const Output want = run(problem, &large, most);
  for (FewRowsTile tile : tiles) {
    if (tile.cluster > 1) {
      if (s.per_128() && s.k > 4096) continue;  // more blocks than a cluster shares
      tile.ctas = 200 * tile.cluster;
    }
    if (s.per_128()) tile.rows = std::min(tile.rows, 32);
    const FewRowsShape shape{problem.groups, s.n, s.k, problem.rows, most, s.per_128()};
    if (s.per_128() && shared_bytes(shape, tile) > 227 * 1024 - 512) tile.stages = 2;
    ASSERT_TRUE(can_run(shape, tile));
    const Output got = run(problem, &tile, most);
    EXPECT_EQ(got.y, want.y) << "tile " << tile.rows << " " << tile.cluster << " " << tile.stages << " " << tile.ctas;
  }
}
bool takes_few_rows(const Shape& s) { return s.dtype == DType::kE4M3; }

TEST_P(GroupedGemmKind, SmallFewRows) {
  if (!takes_few_rows(GetParam())) return;
  const Problem problem(shape({0, 3, 17, 1}, 80, 384), 4);
  check(problem, run(problem));
  check_few_rows(problem, {{8, 1, 2, 3}});
}
TEST_P(GroupedGemmKind, FewRowsInClusters) {
  if (!takes_few_rows(GetParam())) return;
  // Tiles of 64, 64 and 16 weight rows; spans of 1,024 and a rest.
  const Problem problem(shape({5}, 144, 2624), 3);
  check(problem, run(problem));
  check_few_rows(problem, {{8, 2, 5, 0}, {16, 4, 3, 0}});
}
TEST_P(GroupedGemmKind, FewRowsGiveTheSameBitsAsLargeTiles) {
  if (!takes_few_rows(GetParam())) return;
  for (int rows : {1, 7, 8, 9, 16, 40, 64})
    for (int64_t k : {576, 2048, 4672}) {
      const int n = rows <= 8 ? 8 : rows <= 16 ? 16 : rows <= 32 ? 32 : 64;
      check_few_rows(Problem(shape({rows}, 208, k), static_cast<uint32_t>(rows + k)),
                     {{n, 1, 11, 40}, {n, 1, 2, 1}, {n, 2, 5, 0}, {n, 2, 2, 0}, {n, 4, 11, 0}, {n, 4, 2, 0}});
    }
  for (int64_t k : {768, 2048})
    check_few_rows(Problem(shape({1, 0, 8, 9, 64, 0, 30}, 272, k), 5),
                   {{8, 1, 11, 3}, {8, 1, 6, 100}, {8, 2, 5, 0}, {16, 1, 7, 7}, {32, 1, 5, 3}, {64, 2, 6, 0}});
}
// What is chosen by itself, at the sizes of real layers: many tiles to a CTA, clusters beside each other.
TEST_P(GroupedGemmKind, FewRowsAtRealSizes) {
  if (!takes_few_rows(GetParam())) return;
  struct Case {
    std::vector<int> rows;
    int64_t n, k;
  };
  std::vector<int> spread(64);
  for (size_t i = 0; i < 40; ++i) spread[i * 7 % 64] = 1;
  for (const Case& c : {Case{{1}, 2048, 4096}, Case{{8}, 5120, 2048}, Case{{33}, 2048, 14336}, Case{{16}, 28672, 512},
                        Case{spread, 512, 1024}, Case{spread, 256, 768}}) {
    const Problem problem(shape(c.rows, c.n, c.k), 21);
    const int most = *std::max_element(c.rows.begin(), c.rows.end());
    const Shape& s = problem.shape;
    const bool chosen =
        choose_few_rows_tile({problem.groups, c.n, c.k, problem.rows, most, s.per_128()}, 132).has_value();
    EXPECT_TRUE(chosen || (s.per_128() && most > 16)) << c.n << " " << c.k;
    const GroupedGemmTile large = large_tile(s);
    const Output want = run(problem, &large, most);
    for (int again = 0; again < 3; ++again)
      EXPECT_EQ(run<GroupedGemmTile>(problem, nullptr, most).y, want.y) << c.n << " " << c.k;
  }
}

// A row's result depends on the row alone: the same one at different places in batches of every size.
TEST_P(GroupedGemmKind, SameRowInAnyBatchGivesTheSameBits) {
  std::vector<uint8_t> want;
  for (int batch : {1, 7, 8, 9, 64, 65, 1000}) {
    Shape of_batch = shape({batch, batch / 2}, 512, 1088), of_one = shape({1, 0}, 512, 1088);
    of_batch.gap = of_one.gap = 0;
    Problem problem(of_batch, 11);
    const Problem source(of_one, 12);
    const int64_t at = batch * 3 / 4, row_bytes = of_one.k * dtype_size(of_one.dtype);
    std::copy_n(source.x.bytes.begin(), row_bytes, problem.x.bytes.begin() + at * row_bytes);
    problem.w = source.w, problem.w_scales = source.w_scales, problem.bias = source.bias;
    if (!problem.x_scales.empty())
      for (int64_t b = 0; b < problem.k_blocks; ++b)
        problem.x_scales[problem.x_scale_at(b, at)] = source.x_scales[source.x_scale_at(b, 0)];
    const Output out = run<GroupedGemmTile>(problem, nullptr, batch);
    const int64_t y_bytes = problem.out_columns() * dtype_size(of_one.out);
    const std::vector<uint8_t> row(out.y.begin() + at * y_bytes, out.y.begin() + (at + 1) * y_bytes);
    if (want.empty()) want = row;
    EXPECT_EQ(row, want) << "batch " << batch;
  }
}

TEST(GroupedGemm, RefusesWhatItDoesNotCover) {
  const int32_t* some = reinterpret_cast<const int32_t*>(16);
  GroupedGemm args{DType::kBF16, Epilogue::kStore, DType::kBF16, WeightScales::kNone, 1, 64, 64, 1, 1};
  args.x = args.w = args.y = const_cast<int32_t*>(some);
  args.starts = args.ends = some;
  auto refused = [&](auto change) {
    GroupedGemm changed = args;
    change(changed);
    return !grouped_gemm(changed, nullptr).ok();
  };
  EXPECT_TRUE(refused([](GroupedGemm& a) { a.n = 24; }));
  EXPECT_TRUE(refused([](GroupedGemm& a) { a.k = 96; }));
  EXPECT_TRUE(refused([](GroupedGemm& a) { a.groups = 257; }));
  EXPECT_TRUE(refused([](GroupedGemm& a) { a.out_dtype = DType::kF16; }));
  EXPECT_TRUE(refused([](GroupedGemm& a) { a.dtype = DType::kE4M3; }));
  EXPECT_TRUE(refused([](GroupedGemm& a) { a.starts = nullptr; }));
  EXPECT_TRUE(refused([](GroupedGemm& a) {
    a.dtype = DType::kE4M3, a.x_row_scales = true, a.weight_scales = WeightScales::kBlock;
    a.x_scales = a.w_scales = static_cast<const float*>(a.x);
  }));
}

}  // namespace
}  // namespace hearth::cuda
