#include <gtest/gtest.h>

#include <map>

#include "cpu/cpu_backend.h"
#include "cpu/test_tensors.h"
#include "ops/sampling.h"

namespace hearth {
namespace {

struct Edit {
  int32_t token, count;
  float bias;
};
struct Row {
  std::vector<float> logits;
  SamplingRow params;
  std::vector<Edit> edits = {};
  std::vector<int32_t> allowed = {};  // empty: no mask
};
struct Sampled {
  int32_t token, rank;
  float logprob;
  std::vector<int32_t> top_tokens;
  std::vector<float> top_logprobs;
};

std::vector<Sampled> sample(const std::vector<Row>& rows, int threads = 1, int64_t top = 5) {
  const int64_t n = static_cast<int64_t>(rows.size()), vocab = static_cast<int64_t>(rows[0].logits.size());
  const OwnedTensor logits(DType::kF32, {n, vocab});
  std::vector<int32_t> edit_starts{0}, edit_tokens, edit_counts, mask;
  std::vector<float> edit_biases;
  std::vector<uint8_t> has_mask, params;
  for (int64_t r = 0; r < n; ++r) {
    const Row& row = rows[r];
    std::copy(row.logits.begin(), row.logits.end(), Tensor(logits).as<float>() + r * vocab);
    for (const Edit& e : row.edits) {
      edit_tokens.push_back(e.token);
      edit_counts.push_back(e.count);
      edit_biases.push_back(e.bias);
    }
    edit_starts.push_back(static_cast<int32_t>(edit_tokens.size()));
    std::vector<int32_t> bits(static_cast<size_t>(ceil_div(vocab, 32)), 0);
    for (const int32_t t : row.allowed) bits[t / 32] |= static_cast<int32_t>(1u << (t % 32));
    mask.insert(mask.end(), bits.begin(), bits.end());
    has_mask.push_back(!row.allowed.empty());
    const auto* bytes = reinterpret_cast<const uint8_t*>(&row.params);
    params.insert(params.end(), bytes, bytes + sizeof(SamplingRow));
  }
  const OwnedTensor params_tensor = OwnedTensor::of(params, {n, static_cast<int64_t>(sizeof(SamplingRow))}),
                    starts = OwnedTensor::of(edit_starts), tokens_e = OwnedTensor::of(edit_tokens),
                    counts = OwnedTensor::of(edit_counts), biases = OwnedTensor::of(edit_biases),
                    allowed = OwnedTensor::of(mask, {n, ceil_div(vocab, 32)}), masked = OwnedTensor::of(has_mask),
                    tokens(DType::kI32, {n}), logprobs(DType::kF32, {n}), ranks(DType::kI32, {n}),
                    top_tokens(DType::kI32, {n, top}), top_logprobs(DType::kF32, {n, top});
  SampleArgs args{};
  args.logits = logits;
  args.rows = params_tensor;
  args.edit_starts = starts;
  args.edit_tokens = tokens_e;
  args.edit_counts = counts;
  args.edit_biases = biases;
  args.allowed = allowed;
  args.has_mask = masked;
  args.tokens = tokens;
  args.logprobs = logprobs;
  args.ranks = ranks;
  args.top_tokens = top_tokens;
  args.top_logprobs = top_logprobs;
  make_cpu_backend(DType::kF32, threads)->ops().sample(args);
  std::vector<Sampled> out;
  for (int64_t r = 0; r < n; ++r) {
    Sampled& s = out.emplace_back();
    s.token = Tensor(tokens).as<int32_t>()[r];
    s.rank = Tensor(ranks).as<int32_t>()[r];
    s.logprob = logprobs[r];
    for (int64_t i = 0; i < top; ++i) {
      s.top_tokens.push_back(Tensor(top_tokens).as<int32_t>()[r * top + i]);
      s.top_logprobs.push_back(top_logprobs[r * top + i]);
    }
  }
  return out;
}
Sampled sample_one(const Row& row) { return sample({row})[0]; }

// How often each token came up over many positions.
std::map<int32_t, int> histogram(Row row, int draws) {
  std::vector<Row> rows(static_cast<size_t>(draws), row);
  for (int i = 0; i < draws; ++i) rows[i].params.position = i;
  std::map<int32_t, int> out;
  for (const Sampled& s : sample(rows, 2)) ++out[s.token];
  return out;
}

// Pearson's statistic of the draws against the softmax of `logits` over `kept`.
double chi_square(const std::map<int32_t, int>& seen, const std::vector<double>& logits,
                  const std::vector<int32_t>& kept, int draws) {
  double sum = 0, statistic = 0;
  for (const int32_t t : kept) sum += std::exp(logits[t]);
  int counted = 0;
  for (const int32_t t : kept) {
    const double expected = draws * std::exp(logits[t]) / sum;
    const int got = seen.contains(t) ? seen.at(t) : 0;
    statistic += (got - expected) * (got - expected) / expected;
    counted += got;
  }
  EXPECT_EQ(counted, draws) << "a token was drawn that should have been cut";
  return statistic;
}

const std::vector<float> kLogits = {1.0f, 3.0f, -2.0f, 2.5f, 3.0f, 0.0f, 1.5f, -1.0f};

std::vector<double> scaled(double temperature) {
  std::vector<double> out;
  for (const float x : kLogits) out.push_back(x / temperature);
  return out;
}

TEST(Sample, GreedyTakesTheLowerIdOfATie) {
  EXPECT_EQ(sample_one({kLogits, {.temperature = 0}}).token, 1);
  EXPECT_EQ(sample_one({kLogits, {.temperature = 0}, {{1, 0, -0.5f}}}).token, 4);
  EXPECT_EQ(sample_one({kLogits, {.temperature = 0}, {}, {0, 3, 5}}).token, 3);
  // The mask comes first: no bias brings a forbidden token back.
  EXPECT_EQ(sample_one({kLogits, {.temperature = 0}, {{7, 0, 100.0f}}, {0, 3, 5}}).token, 3);
}

TEST(Sample, PenaltiesAndBiasEditLogitsInTheirOrder) {
  // Token 1: 3 / 1.5 - 0.25 * 2 - 0.5 + 0 = 1.0; token 4 (prompt only): 3 / 1.5 = 2; token 3: 2.5.
  SamplingRow p{.temperature = 0, .frequency_penalty = 0.25f, .presence_penalty = 0.5f, .repetition_penalty = 1.5f};
  EXPECT_EQ(sample_one({kLogits, p, {{1, 2, 0}, {4, -1, 0}}}).token, 3);
  EXPECT_EQ(sample_one({kLogits, p, {{1, 2, 0}, {4, -1, 0.6f}}}).token, 4);
  EXPECT_EQ(sample_one({kLogits, p, {{1, 2, 1.6f}, {4, -1, 0}}}).token, 1);
  // A negative logit is multiplied: -2 becomes -3, so a bias of 5.4 leaves it at 2.4 and one of 6.1 at 3.1.
  EXPECT_EQ(sample_one({kLogits, p, {{2, -1, 5.4f}}}).token, 1);
  EXPECT_EQ(sample_one({kLogits, p, {{2, -1, 6.1f}}}).token, 2);
  // A count of 0 is a bias alone.
  EXPECT_EQ(sample_one({kLogits, p, {{3, 0, 0.75f}}}).token, 3);
}

TEST(Sample, DrawsFollowTheDistribution) {
  const int draws = 20000;
  const std::vector<int32_t> all = {0, 1, 2, 3, 4, 5, 6, 7};
  // 7 degrees of freedom: above 24.3 once in a thousand.
  EXPECT_LT(chi_square(histogram({kLogits, {.seed = 1}}, draws), scaled(1), all, draws), 24.3);
  EXPECT_LT(chi_square(histogram({kLogits, {.temperature = 2.5f, .seed = 2}}, draws), scaled(2.5), all, draws), 24.3);
  // Probabilities in order: 1, 4: .293 each; 3: .178; 6: .065; 0: .040 ...
  EXPECT_LT(chi_square(histogram({kLogits, {.top_k = 3, .seed = 3}}, draws), scaled(1), {1, 3, 4}, draws), 13.8);
  EXPECT_LT(chi_square(histogram({kLogits, {.min_p = 0.2f, .seed = 4}}, draws), scaled(1), {1, 3, 4, 6}, draws), 16.3);
  EXPECT_LT(chi_square(histogram({kLogits, {.top_p = 0.7f, .seed = 5}}, draws), scaled(1), {1, 3, 4}, draws), 13.8);
}

TEST(Sample, DrawIsGumbelMaxOfTheSharedNoise) {
  const std::vector<float> logits = random_values(1000, 1, 3);
  const float top = *std::max_element(logits.begin(), logits.end());
  for (int position = 0; position < 200; ++position) {
    const SamplingRow p{.temperature = 0.8f, .position = position, .seed = 0x123456789ABCDEFull};
    int32_t best = -1;
    float score = 0;
    for (int32_t t = 0; t < 1000; ++t) {
      const float u = philox_uniform(p.seed, static_cast<uint32_t>(position), static_cast<uint32_t>(t));
      const float s = (logits[t] - top) / p.temperature - std::log(-std::log(u));
      if (best < 0 || s > score) best = t, score = s;
    }
    EXPECT_EQ(sample_one({logits, p}).token, best);
  }
}

TEST(Sample, CutsKeepTheSmallestSet) {
  const auto only = [](const Row& row, const std::vector<int32_t>& kept) {
    const auto seen = histogram(row, 3000);
    std::vector<int32_t> tokens;
    for (const auto& [token, count] : seen) tokens.push_back(token);
    EXPECT_EQ(tokens, kept);
  };
  const std::vector<float> even(8, 1.0f);  // ties go to the lower ids, and eighths are exact
  only({even, {.top_k = 3}}, {0, 1, 2});
  only({even, {.top_p = 0.25f}}, {0, 1});
  only({even, {.top_p = 0.26f}}, {0, 1, 2});
  only({even, {.top_p = 0.5f, .top_k = 4}}, {0, 1});  // top-p is a share of what top-k left
  only({even, {.top_p = 1e-9f}}, {0});
  only({even, {.min_p = 1.0f}}, {0, 1, 2, 3, 4, 5, 6, 7});
  only({even, {.top_k = 100}}, {0, 1, 2, 3, 4, 5, 6, 7});
  only({even, {.top_k = 2}, {}, {3, 5, 6}}, {3, 5});
  only({kLogits, {.min_p = 0.99f}}, {1, 4});
  only({kLogits, {.temperature = 1e-30f}}, {1, 4});
  only({kLogits, {.top_k = 1}}, {1});
}

// A large vocabulary, where the cut is found by partial sorting: against a full sort.
TEST(Sample, TopPOfALargeVocabulary) {
  const int64_t vocab = 20000;
  for (const float spread : {0.01f, 1.0f, 4.0f}) {
    const std::vector<float> logits = random_values(vocab, 5, spread);
    std::vector<int32_t> order(vocab);
    for (int32_t i = 0; i < vocab; ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
    double total = 0, sum = 0;
    for (const float x : logits) total += std::exp(double(x));
    size_t kept = 0;
    while (sum < 0.5 * total) sum += std::exp(double(logits[order[kept++]]));
    // A token just inside the cut can be forced to win by its noise, one just outside never: draw with many seeds.
    std::vector<Row> rows;
    for (uint64_t seed = 0; seed < 20; ++seed) rows.push_back({logits, {.top_p = 0.5f, .seed = seed}});
    const float least = logits[order[kept - 1]];
    for (const Sampled& s : sample(rows, 2)) EXPECT_GE(logits[s.token], least - 1e-4f);
  }
}

TEST(Sample, LogprobsAreOfTheUneditedLogits) {
  double sum = 0;
  for (const float x : kLogits) sum += std::exp(double(x));
  const Sampled s = sample_one({kLogits, {.temperature = 0, .num_logprobs = 3}, {{3, 0, 9.0f}}});
  EXPECT_EQ(s.token, 3);
  EXPECT_EQ(s.rank, 3);
  EXPECT_NEAR(s.logprob, 2.5 - std::log(sum), 1e-6);
  EXPECT_EQ(s.top_tokens, (std::vector<int32_t>{1, 4, 3, -1, -1}));
  EXPECT_EQ(s.logprob, s.top_logprobs[2]);  // the same float
  EXPECT_NEAR(s.top_logprobs[0], 3.0 - std::log(sum), 1e-6);
  EXPECT_EQ(s.top_logprobs[3], -INFINITY);

  const Sampled forced = sample_one({kLogits, {.num_logprobs = 0, .target = 7}});
  EXPECT_EQ(forced.token, 7);
  EXPECT_EQ(forced.rank, 7);
  EXPECT_NEAR(forced.logprob, -1.0 - std::log(sum), 1e-6);
  EXPECT_EQ(forced.top_tokens[0], -1);

  const Sampled none = sample_one({kLogits, {.temperature = 0}});
  EXPECT_EQ(none.logprob, 0.0f);
  EXPECT_EQ(none.rank, 0);

  const std::vector<float> large = random_values(49152, 9, 3);
  double large_sum = 0;
  for (const float x : large) large_sum += std::exp(double(x));
  const Sampled greedy = sample_one({large, {.temperature = 0, .num_logprobs = 5}});
  EXPECT_EQ(greedy.token, greedy.top_tokens[0]);
  EXPECT_EQ(greedy.logprob, greedy.top_logprobs[0]);
  EXPECT_EQ(greedy.rank, 1);
  EXPECT_NEAR(greedy.logprob, large[greedy.token] - std::log(large_sum), 2e-6);
}

TEST(Sample, ARowWithoutADistributionFailsAlone) {
  std::vector<float> nan = kLogits, infinite = kLogits, nothing(8, -INFINITY), some = nothing;
  nan[6] = NAN;
  infinite[2] = INFINITY;
  some[5] = -3.0f;
  const auto out = sample({{kLogits, {.temperature = 0}},
                           {nan, {.temperature = 0, .num_logprobs = 2}},
                           {infinite, {}},
                           {nothing, {.top_k = 2}},
                           {some, {.top_p = 0.5f, .num_logprobs = 2}},
                           {nan, {.target = 3}},
                           {kLogits, {.temperature = 0}}});
  EXPECT_EQ(out[0].token, 1);
  for (const int r : {1, 2, 3, 5}) EXPECT_EQ(out[r].token, -1) << r;
  EXPECT_EQ(out[1].top_tokens[0], -1);
  EXPECT_EQ(out[4].token, 5);
  EXPECT_EQ(out[4].logprob, 0.0f);
  EXPECT_EQ(out[6].token, 1);
}

TEST(Sample, RowsAndThreadsDoNotMatter) {
  std::vector<Row> rows;
  for (int i = 0; i < 40; ++i) {
    Row& row = rows.emplace_back();
    row.logits = random_values(3000, static_cast<uint32_t>(i), 2);
    row.params = {.temperature = 0.2f * (i % 7), .position = i, .seed = 99};
    if (i % 2) row.params.top_p = 0.9f;
    if (i % 3) row.params.top_k = 40;
    row.params.num_logprobs = i % 4 - 1;
  }
  const auto together = sample(rows, 3);
  for (size_t i = 0; i < rows.size(); ++i) {
    const Sampled alone = sample_one(rows[i]);
    EXPECT_EQ(alone.token, together[i].token);
    EXPECT_EQ(alone.logprob, together[i].logprob);
    EXPECT_EQ(alone.top_logprobs, together[i].top_logprobs);
  }
}

}  // namespace
}  // namespace hearth
