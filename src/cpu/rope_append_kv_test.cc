#include <gtest/gtest.h>

#include "cpu/cpu_backend.h"
#include "cpu/quantize.h"
#include "cpu/test_tensors.h"
#include "ops/kv_layout.h"

namespace hearth {
namespace {

constexpr int64_t kHeads = 3, kKvHeads = 2, kDim = 24, kBlocks = 3, kTokens = 4,
                  kWidth = (kHeads + 2 * kKvHeads) * kDim;

struct Fixture {
  explicit Fixture(DType act, DType kv, int64_t rotary)
      : act(act),
        rotary(rotary),
        before(act, {kTokens, kWidth}, random_values(kTokens * kWidth, 1)),
        qkv(act, {kTokens, kWidth}, floats(before)),
        positions(OwnedTensor::of(std::vector<int32_t>{0, 63, 64, 99})),
        slots(OwnedTensor::of(std::vector<int64_t>{64, 127, 0, 2 * 64 + 35})),
        k(kv, {kBlocks, kKvHeads, kBlockSize, kDim}),
        v(kv, {kBlocks, kKvHeads, kBlockSize, kDim}),
        k_scales(DType::kF32, {kBlocks, kKvHeads, kBlockSize}),
        v_scales(DType::kF32, {kBlocks, kKvHeads, kBlockSize}),
        angles(DType::kF32, {100, rotary}) {
    for (int64_t p = 0; p < 100; ++p) {
      for (int64_t i = 0; i < rotary / 2; ++i) {
        const double angle = double(p) * std::pow(10000.0, -2.0 * double(i) / double(rotary));
        set_element(angles, p * rotary + i, static_cast<float>(std::cos(angle)));
        set_element(angles, p * rotary + rotary / 2 + i, static_cast<float>(std::sin(angle)));
      }
    }
  }
  void run(Tensor static_k = {}, Tensor static_v = {}, QkNormArgs norm = {}) {
    RopeAppendKvArgs args{};
    args.qkv = qkv;
    args.positions = positions;
    args.slots = slots;
    args.cos_sin = angles;
    args.heads = kHeads;
    args.kv_heads = kKvHeads;
    args.head_dim = kDim;
    args.cache = {k, v, k_scales, v_scales};
    args.static_k_scale = static_k;
    args.static_v_scale = static_v;
    args.norm = norm;
    make_cpu_backend(act, 2)->ops().rope_append_kv(args);
  }
  // Head h of a token as rotation leaves it, in f32 before it is stored.
  std::vector<float> rotated(int64_t token, int64_t h) const {
    std::vector<float> x(kDim);
    for (int64_t i = 0; i < kDim; ++i) x[i] = before[token * kWidth + h * kDim + i];
    if (h >= kHeads + kKvHeads) return x;
    const std::vector<float> from = x;
    const float* cs = Tensor(angles).as<float>() + Tensor(positions).as<int32_t>()[token] * rotary;
    for (int64_t i = 0; i < rotary / 2; ++i) {
      x[i] = from[i] * cs[i] - from[i + rotary / 2] * cs[rotary / 2 + i];
      x[i + rotary / 2] = from[i + rotary / 2] * cs[i] + from[i] * cs[rotary / 2 + i];
    }
    return x;
  }
  DType act;
  int64_t rotary;
  OwnedTensor before, qkv, positions, slots, k, v, k_scales, v_scales, angles;
};

int64_t cache_row(const Fixture& f, int64_t token, int64_t head) {
  return KvLayout{kKvHeads, kDim}.slot_row(Tensor(f.slots).as<int64_t>()[token], head);
}

TEST(RopeAppendKv, RotatesAndStores) {
  for (const DType act : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const int64_t rotary : {kDim, int64_t{16}, int64_t{2}}) {
      Fixture f(act, act, rotary);
      f.run();
      for (int64_t token = 0; token < kTokens; ++token) {
        for (int64_t h = 0; h < kHeads + 2 * kKvHeads; ++h) {
          const std::vector<float> x = f.rotated(token, h);
          const int64_t kv_head = (h - kHeads) % kKvHeads;
          for (int64_t i = 0; i < kDim; ++i) {
            const float expected = OwnedTensor(act, {1}, {x[i]})[0];
            if (h < kHeads) {
              EXPECT_EQ(f.qkv[token * kWidth + h * kDim + i], expected);
            } else {
              const OwnedTensor& cache = h < kHeads + kKvHeads ? f.k : f.v;
              EXPECT_EQ(cache[cache_row(f, token, kv_head) * kDim + i], expected);
            }
          }
        }
      }
      int64_t written = 0;
      for (int64_t i = 0; i < Tensor(f.k).shape.elements(); ++i) written += !std::isnan(f.k[i]);
      EXPECT_EQ(written, kTokens * kKvHeads * kDim);
    }
  }
}

// A rotation keeps q . k dependent on the distance alone.
TEST(RopeAppendKv, PairsAreHalfAHeadApart) {
  Fixture f(DType::kF32, DType::kF32, kDim);
  f.run();
  const double angle = 63 * std::pow(10000.0, -2.0 * 3 / kDim);
  const float a = f.before[kWidth + 3], b = f.before[kWidth + 3 + kDim / 2];
  EXPECT_NEAR(f.qkv[kWidth + 3], a * std::cos(angle) - b * std::sin(angle), 1e-5);
  EXPECT_NEAR(f.qkv[kWidth + 3 + kDim / 2], b * std::cos(angle) + a * std::sin(angle), 1e-5);
}

TEST(RopeAppendKv, QuantizesPerTokenAndHeadOrWithStaticScales) {
  for (const bool fixed : {false, true}) {
    Fixture f(DType::kBF16, DType::kE4M3, kDim);
    const OwnedTensor k_static = OwnedTensor::of(std::vector<float>{0.01f, 0.002f}),
                      v_static = OwnedTensor::of(std::vector<float>{0.03f, 0.004f});
    fixed ? f.run(k_static, v_static) : f.run();
    for (int64_t token = 0; token < kTokens; ++token) {
      for (int64_t h = 0; h < 2 * kKvHeads; ++h) {
        const bool is_key = h < kKvHeads;
        const int64_t row = cache_row(f, token, h % kKvHeads);
        const std::vector<float> x = f.rotated(token, kHeads + h);
        E4M3 q[kDim];
        float scale = quantize_group(x.data(), kDim, q);
        if (fixed) {
          scale = (is_key ? k_static : v_static)[h % kKvHeads];
          for (int64_t i = 0; i < kDim; ++i) q[i] = to_e4m3(x[i] * (1.0f / scale));
        }
        EXPECT_EQ((is_key ? f.k_scales : f.v_scales)[row], scale);
        for (int64_t i = 0; i < kDim; ++i) EXPECT_EQ((is_key ? f.k : f.v)[row * kDim + i], to_float(q[i]));
      }
    }
  }
}

// Against double precision: a head's norm or that of all heads, the cache's keys and the queries in place.
TEST(RopeAppendKv, NormalizesQueriesAndKeysFirst) {
  for (const bool whole : {false, true}) {
    Fixture f(DType::kF32, DType::kF32, kDim);
    const int64_t q_width = whole ? kHeads * kDim : kDim, k_width = whole ? kKvHeads * kDim : kDim;
    const OwnedTensor q_weight(DType::kF32, {q_width}, random_values(q_width, 8)),
        k_weight(DType::kF32, {k_width}, random_values(k_width, 9));
    f.run({}, {}, {q_weight, k_weight, 1e-3f});
    for (int64_t token = 0; token < kTokens; ++token) {
      for (int64_t h = 0; h < kHeads + kKvHeads; ++h) {
        const bool query = h < kHeads;
        const int64_t first = query ? 0 : kHeads, heads = query ? kHeads : kKvHeads;
        double squares = 0;
        for (int64_t i = 0; i < (whole ? heads : 1) * kDim; ++i) {
          const double x = f.before[token * kWidth + (whole ? first : h) * kDim + i];
          squares += x * x;
        }
        const double inverse = 1 / std::sqrt(squares / double((whole ? heads : 1) * kDim) + 1e-3);
        std::vector<double> x(kDim);
        for (int64_t i = 0; i < kDim; ++i) {
          const OwnedTensor& weight = query ? q_weight : k_weight;
          x[i] = f.before[token * kWidth + h * kDim + i] * inverse * weight[(whole ? h - first : 0) * kDim + i];
        }
        const float* cs = Tensor(f.angles).as<float>() + Tensor(f.positions).as<int32_t>()[token] * kDim;
        for (int64_t i = 0; i < kDim / 2; ++i) {
          const double a = x[i] * cs[i] - x[i + kDim / 2] * cs[kDim / 2 + i];
          const double b = x[i + kDim / 2] * cs[i] + x[i] * cs[kDim / 2 + i];
          const int64_t at = query ? token * kWidth + h * kDim : cache_row(f, token, h - kHeads) * kDim;
          const OwnedTensor& out = query ? f.qkv : f.k;
          EXPECT_NEAR(out[at + i], a, 1e-5);
          EXPECT_NEAR(out[at + kDim / 2 + i], b, 1e-5);
        }
      }
      for (int64_t h = 0; h < kKvHeads; ++h) {
        for (int64_t i = 0; i < kDim; ++i) {
          EXPECT_EQ(f.v[cache_row(f, token, h) * kDim + i],
                    f.before[token * kWidth + (kHeads + kKvHeads + h) * kDim + i]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace hearth
