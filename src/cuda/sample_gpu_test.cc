// sample against the CPU's op: every parameter, ties, masks, edits, sick rows, ragged vocabularies; and a row's bits in
// any batch.
#include <algorithm>
#include <functional>

#include "cpu/cpu_backend.h"
#include "cuda/gpu_testing.h"
#include "cuda/small_kernels.h"
#include "ops/sampling.h"

namespace hearth::cuda {
namespace {

constexpr uint64_t kSeeds[] = {1, 20261122};
constexpr int64_t kWidth = 20;

Ops& cpu() {
  static const auto backend = make_cpu_backend(DType::kF32, 2);
  return backend->ops();
}

struct Edit {
  int32_t token, count;
  float bias;
};

// A batch of rows as the runner packs it.
struct Rows {
  Both logits, rows, edit_starts, edit_tokens, edit_counts, edit_biases, allowed, has_mask;
  Both sizes, tokens, logprobs, ranks, top_tokens, top_logprobs;

  SampleArgs args(Tensor Both::*side) const {
    const auto of = [side](const Both& b) { return b.*side; };
    return {of(logits),  of(sizes),    of(rows),   of(edit_starts), of(edit_tokens), of(edit_counts), of(edit_biases),
            of(allowed), of(has_mask), of(tokens), of(logprobs),    of(ranks),       of(top_tokens),  of(top_logprobs)};
  }
  int64_t size() const { return logits.host.dim(0); }
  SamplingRow& row(int64_t r) const { return reinterpret_cast<SamplingRow*>(rows.host.data)[r]; }
};

// `edits` and `allows` may be empty: no row has any.
Rows pack(Case& c, const Both& logits, const std::vector<SamplingRow>& params,
          const std::vector<std::vector<Edit>>& edits = {},
          const std::vector<std::function<bool(int64_t)>>& allows = {}) {
  const int64_t n = logits.host.dim(0), vocab = logits.host.dim(1);
  Rows out;
  out.logits = logits;
  out.rows = c.poison(DType::kU8, {n, sizeof(SamplingRow)});
  for (int64_t r = 0; r < n; ++r) out.row(r) = params[static_cast<size_t>(r)];
  out.rows.upload();
  if (!edits.empty()) {
    std::vector<Edit> all;
    out.edit_starts = c.fill<int32_t>(DType::kI32, {n + 1}, [&](int64_t r) {
      const auto start = static_cast<int64_t>(all.size());
      if (r < n) all.insert(all.end(), edits[static_cast<size_t>(r)].begin(), edits[static_cast<size_t>(r)].end());
      return start;
    });
    const auto count = static_cast<int64_t>(all.size());
    const auto at = [&](int64_t i) { return all[static_cast<size_t>(i)]; };
    out.edit_tokens = c.fill<int32_t>(DType::kI32, {count}, [&](int64_t i) { return at(i).token; });
    out.edit_counts = c.fill<int32_t>(DType::kI32, {count}, [&](int64_t i) { return at(i).count; });
    out.edit_biases = c.fill<float>(DType::kF32, {count}, [&](int64_t i) { return at(i).bias; });
  }
  if (!allows.empty()) {
    const int64_t words = ceil_div(vocab, 32);
    out.has_mask = c.fill<uint8_t>(DType::kU8, {n}, [&](int64_t r) { return allows[static_cast<size_t>(r)] ? 1 : 0; });
    out.allowed = c.fill<int32_t>(DType::kI32, {n, words}, [&](int64_t i) {
      uint32_t bits = 0;
      const auto& allow = allows[static_cast<size_t>(i / words)];
      for (int64_t b = 0; b < 32; ++b) bits |= static_cast<uint32_t>(allow && allow(i % words * 32 + b)) << b;
      return static_cast<int32_t>(bits);
    });
  }
  out.sizes = c.fill<int32_t>(DType::kI32, {3}, [&](int64_t i) { return i == 2 ? n : 1; });
  out.tokens = c.poison(DType::kI32, {n});
  out.logprobs = c.poison(DType::kF32, {n});
  out.ranks = c.poison(DType::kI32, {n});
  out.top_tokens = c.poison(DType::kI32, {n, kWidth});
  out.top_logprobs = c.poison(DType::kF32, {n, kWidth});
  return out;
}

// A draw's noise comes from two logarithms that differ in their last bits here and there, so of two tokens whose noisy
// values are within 1e-4 of one another either may win. Everything else is exact but for the last bits of logprobs.
void check(const Rows& rows) {
  std::vector<float> before(rows.logits.host.as<float>(),
                            rows.logits.host.as<float>() + rows.logits.host.shape.elements());
  cpu().sample(rows.args(&Both::host));  // leaves (logit - largest) / temperature in the logits of drawn rows
  sample(rows.args(&Both::device), nullptr);
  const Fetched tokens = fetch(rows.tokens.device), logprobs = fetch(rows.logprobs.device);
  const Fetched ranks = fetch(rows.ranks.device);
  const int64_t vocab = rows.logits.host.dim(1);
  for (int64_t r = 0; r < rows.size(); ++r) {
    const SamplingRow& p = rows.row(r);
    const int32_t want = rows.tokens.host.as<int32_t>()[r], got = tokens.tensor.as<int32_t>()[r];
    if (want != got && p.temperature > 0 && p.target < 0 && want >= 0 && got >= 0 && got < vocab) {
      const auto noisy = [&](int32_t token) {
        const double u = philox_uniform(p.seed, static_cast<uint32_t>(p.position), static_cast<uint32_t>(token));
        return rows.logits.host.as<float>()[r * vocab + token] - std::log(-std::log(u));
      };
      EXPECT_NEAR(noisy(want), noisy(got), 1e-4) << "row " << r << ": tokens " << want << " and " << got;
      continue;
    }
    EXPECT_EQ(want, got) << "token of row " << r;
    EXPECT_NEAR(rows.logprobs.host.as<float>()[r], logprobs.tensor.as<float>()[r], 5e-5) << "logprob of row " << r;
    EXPECT_EQ(rows.ranks.host.as<int32_t>()[r], ranks.tensor.as<int32_t>()[r]) << "rank of row " << r;
  }
  expect_same_bits(rows.top_tokens, "top tokens");
  const Fetched top = fetch(rows.top_logprobs.device);
  for (int64_t i = 0; i < rows.top_logprobs.host.shape.elements(); ++i) {
    const float want = rows.top_logprobs.host.as<float>()[i], got = top.tensor.as<float>()[i];
    EXPECT_TRUE(want == got || std::abs(want - got) < 5e-5) << "top logprob " << i << ": " << want << ", " << got;
  }
  const Fetched logits = fetch(rows.logits.device);
  EXPECT_EQ(std::memcmp(logits.bytes.data(), before.data(), logits.bytes.size()), 0) << "the logits were overwritten";
}

SamplingRow random_row(Case& c) {
  SamplingRow p;
  const float temperatures[] = {0.0f, 0.3f, 1.0f, 1.7f, 100.0f};
  p.temperature = temperatures[c.below(5)];
  const int32_t ks[] = {0, 0, 1, 2, 40, 1000, 1 << 20};
  p.top_k = ks[c.below(7)];
  const float ps[] = {1.0f, 1.0f, 0.0f, 0.1f, 0.9f, 0.999999f};
  p.top_p = ps[c.below(6)];
  const float minima[] = {0.0f, 0.0f, 0.05f, 1.0f};
  p.min_p = minima[c.below(4)];
  p.frequency_penalty = c.uniform(-2.0f, 2.0f);
  p.presence_penalty = c.uniform(-2.0f, 2.0f);
  p.repetition_penalty = c.uniform(0.5f, 2.0f);
  p.num_logprobs = static_cast<int32_t>(c.below(kWidth + 2)) - 1;
  p.position = static_cast<int32_t>(c.below(1000));
  p.seed = c.random()();
  return p;
}

enum class Logits { kNormal, kTies, kEqual, kPeaked };

Both make_logits(Case& c, int64_t rows, int64_t vocab, Logits kind) {
  return c.fill<float>(DType::kF32, {rows, vocab},
                       [&, normal = std::normal_distribution<float>(0, 3)](int64_t) mutable {
                         switch (kind) {
                           case Logits::kNormal: return normal(c.random());
                           case Logits::kTies: return std::round(normal(c.random())) * 0.5f;
                           case Logits::kEqual: return -1.25f;
                           case Logits::kPeaked:
                             return c.below(50) == 0 ? normal(c.random()) : -100.0f + normal(c.random());
                         }
                         return 0.0f;
                       });
}

void check_random(Case& c, int64_t n, int64_t vocab, Logits kind) {
  SCOPED_TRACE(cat(n, " rows of ", vocab, ", logits ", static_cast<int>(kind)));
  std::vector<SamplingRow> params;
  std::vector<std::vector<Edit>> edits;
  std::vector<std::function<bool(int64_t)>> allows;
  for (int64_t r = 0; r < n; ++r) {
    params.push_back(random_row(c));
    auto& row_edits = edits.emplace_back();
    if (c.below(2)) {
      std::vector<int32_t> ids(static_cast<size_t>(vocab));
      for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
      std::shuffle(ids.begin(), ids.end(), c.random());
      ids.resize(static_cast<size_t>(1 + c.below(std::min<int64_t>(vocab, 500))));
      for (const int32_t id : ids) {
        row_edits.push_back({id, static_cast<int32_t>(c.below(5)) - 1, c.below(3) ? 0.0f : c.uniform(-5.0f, 5.0f)});
      }
    }
    const int64_t modulus = 1 + c.below(9);
    allows.push_back(c.below(3) ? std::function<bool(int64_t)>{} : [modulus](int64_t t) { return t % modulus == 0; });
  }
  check(pack(c, make_logits(c, n, vocab, kind), params, edits, allows));
}

constexpr Logits kKinds[] = {Logits::kNormal, Logits::kTies, Logits::kEqual, Logits::kPeaked};

TEST(SampleGpu, SmallMatchesCpu) {
  Case c(1);
  for (const Logits kind : kKinds) check_random(c, 3, kind == Logits::kTies ? 5 : 1001, kind);
}
TEST(SampleGpu, MatchesCpu) {
  for (const uint64_t seed : kSeeds) {
    Case c(seed);
    for (const Logits kind : kKinds) {
      check_random(c, 20, 2048, kind);
      check_random(c, 40, 32000, kind);
      check_random(c, 9, 49152, kind);
      check_random(c, 5, 151936, kind);
      check_random(c, 3, 32003, kind);
    }
  }
}

TEST(SampleGpu, SmallSickRows) {
  Case c(3);
  constexpr int64_t kVocab = 3000;
  const float infinity = std::numeric_limits<float>::infinity();
  const Both logits = make_logits(c, 9, kVocab, Logits::kNormal);
  float* x = logits.host.as<float>();
  x[0 * kVocab + 2999] = std::nanf("");
  x[1 * kVocab + 17] = infinity;
  std::fill_n(x + 2 * kVocab, kVocab, -infinity);
  std::fill_n(x + 3 * kVocab, kVocab, -infinity);
  x[3 * kVocab + 1234] = -3.0f;
  x[4 * kVocab + 0] = std::nanf("");
  std::fill_n(x + 6 * kVocab, kVocab, 0.0f);
  x[6 * kVocab] = -0.0f;  // both zeros are equal, so the lower id wins
  logits.upload();
  std::vector<SamplingRow> params(9);
  for (SamplingRow& p : params) p.num_logprobs = 3;
  params[3].top_k = 5;
  params[4].target = 7;  // a target does not heal a row
  params[5].target = 7;
  params[6].temperature = 0;
  params[8].temperature = 1e-30f;
  std::vector<std::function<bool(int64_t)>> allows(9);
  allows[7] = [](int64_t) { return false; };
  check(pack(c, logits, params, {}, allows));
}

TEST(SampleGpu, SmallRowsBeyondTheStepAreLeftAlone) {
  Case c(4);
  Rows rows = pack(c, make_logits(c, 4, 2000, Logits::kNormal), std::vector<SamplingRow>(4));
  rows.sizes = c.fill<int32_t>(DType::kI32, {3}, [](int64_t i) { return i == 2 ? 2 : 1; });
  sample(rows.args(&Both::device), nullptr);
  const Fetched tokens = fetch(rows.tokens.device);
  EXPECT_GE(tokens.tensor.as<int32_t>()[1], 0);
  EXPECT_EQ(tokens.tensor.as<int32_t>()[2], -1);
  EXPECT_EQ(tokens.tensor.as<int32_t>()[3], -1);
}

// Draws follow the softmax: 40,000 draws over 8 tokens, each count within 5 standard deviations.
TEST(SampleGpu, DrawsFollowTheDistribution) {
  Case c(11);
  constexpr int64_t kDraws = 40000, kVocab = 8;
  const float logits[kVocab] = {0.0f, 1.0f, -1.0f, 2.0f, 0.5f, -3.0f, 1.5f, 0.0f};
  std::vector<SamplingRow> params(kDraws);
  for (int64_t r = 0; r < kDraws; ++r) params[static_cast<size_t>(r)].seed = static_cast<uint64_t>(r);
  const Rows rows =
      pack(c, c.fill<float>(DType::kF32, {kDraws, kVocab}, [&](int64_t i) { return logits[i % kVocab]; }), params);
  sample(rows.args(&Both::device), nullptr);
  const Fetched tokens = fetch(rows.tokens.device);
  double counts[kVocab] = {}, total = 0;
  for (int64_t r = 0; r < kDraws; ++r) ++counts[tokens.tensor.as<int32_t>()[r]];
  for (const float l : logits) total += std::exp(l);
  for (int64_t t = 0; t < kVocab; ++t) {
    const double p = std::exp(logits[t]) / total;
    EXPECT_NEAR(counts[t], kDraws * p, 5 * std::sqrt(kDraws * p * (1 - p))) << "token " << t;
  }
}

TEST(SampleGpu, BitsDoNotDependOnTheBatch) {
  constexpr int64_t kRows = 200, kVocab = 32000;
  Case c(12);
  std::vector<SamplingRow> params;
  for (int64_t r = 0; r < kRows; ++r) params.push_back(random_row(c));
  const Both logits = make_logits(c, kRows, kVocab, Logits::kNormal);
  const Rows all = pack(c, logits, params);
  sample(all.args(&Both::device), nullptr);
  const Fetched tokens = fetch(all.tokens.device), logprobs = fetch(all.logprobs.device);
  const Fetched top = fetch(all.top_logprobs.device);
  for (const int64_t n : {1, 7, 64}) {
    const int64_t begin = c.below(kRows - n);
    const Rows some = pack(c, {logits.host.rows(begin, n), logits.device.rows(begin, n)},
                           {params.begin() + begin, params.begin() + begin + n});
    sample(some.args(&Both::device), nullptr);
    expect_same_bits(tokens.tensor.rows(begin, n), some.tokens.device, "tokens");
    expect_same_bits(logprobs.tensor.rows(begin, n), some.logprobs.device, "logprobs");
    expect_same_bits(top.tensor.rows(begin, n), some.top_logprobs.device, "top logprobs");
  }
}

}  // namespace
}  // namespace hearth::cuda
