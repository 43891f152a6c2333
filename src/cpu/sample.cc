// sample: one row of logits to a token and its log-probabilities. Every choice is made in an order fixed by (value,
// token id), every sum in a fixed order or in integers.
#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/cpu_ops.h"
#include "cpu/simd.h"
#include "ops/sampling.h"

namespace hearth {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int32_t kNoToken = -1;

struct Candidate {
  float value;
  int32_t token;
  // More likely first; ties to the lower id.
  bool operator<(const Candidate& other) const {
    return value > other.value || (value == other.value && token < other.token);
  }
};

// Sorts the front of `all` in growing steps until `enough(candidate)` has been true, and keeps what came up to it.
template <typename Enough>
void keep_until(std::vector<Candidate>& all, Enough enough) {
  size_t sorted = 0;
  for (size_t step = 64; sorted < all.size(); step *= 4) {
    const size_t next = std::min(all.size(), sorted + step);
    if (next < all.size()) std::nth_element(all.begin() + sorted, all.begin() + next, all.end());
    std::sort(all.begin() + sorted, all.begin() + next);
    for (; sorted < next; ++sorted) {
      if (enough(all[sorted])) return all.resize(sorted + 1);
    }
  }
}

void keep_largest(std::vector<Candidate>& all, size_t count) {
  keep_until(all, [&count](const Candidate&) { return --count == 0; });
}

// Likelihood relative to the most likely token's, and as an integer: sums of those do not depend on their order.
float likelihood(float shifted) { return simd::exp(shifted); }
uint64_t mass(float shifted) { return static_cast<uint64_t>(likelihood(shifted) * 0x1p40f); }

// Log-probabilities at temperature 1 of a row's unedited logits.
struct LogProbs {
  float largest = -kInfinity, log_sum = 0;

  // False where the row has no distribution: a NaN, an infinity, or nothing above -infinity.
  bool init(const float* logits, int64_t vocab) {
    for (int64_t i = 0; i < vocab; ++i) {
      if (std::isnan(logits[i])) return false;
      largest = std::max(largest, logits[i]);
    }
    if (std::isinf(largest)) return false;
    double sum = 0;
    constexpr int64_t kChunk = 1024;
    for (int64_t begin = 0; begin < vocab; begin += kChunk) {
      const int64_t end = std::min(vocab, begin + kChunk);
      simd::Lanes lanes = simd::splat(0);
      for (int64_t i = begin; i < end; i += simd::kLanes) {
        float shifted[simd::kLanes];
        std::fill_n(shifted, simd::kLanes, -kInfinity);
        for (int64_t j = i; j < std::min(end, i + simd::kLanes); ++j) shifted[j - i] = logits[j] - largest;
        lanes = lanes + simd::exp(simd::load(shifted));
      }
      sum += simd::reduce_add(lanes);
    }
    log_sum = static_cast<float>(std::log(sum));
    return true;
  }
  float of(float logit) const { return logit - largest - log_sum; }
};

class RowSampler {
 public:
  RowSampler(const SampleArgs& args, int64_t row, std::vector<Candidate>& candidates)
      : args_(args),
        row_(row),
        vocab_(args.logits.dim(1)),
        logits_(args.logits.as<float>() + row * vocab_),
        params_(reinterpret_cast<const SamplingRow*>(args.rows.as<uint8_t>())[row]),
        candidates_(candidates) {}

  void run() {
    LogProbs logprobs;
    const bool sane = logprobs.init(logits_, vocab_);
    const bool wants_logprobs = sane && params_.num_logprobs >= 0;
    if (args_.top_tokens) write_top(wants_logprobs ? &logprobs : nullptr);
    // Edits touch the logits in place, so the sampled token's own logit is read back through what they changed.
    if (wants_logprobs) original_.assign(logits_, logits_ + vocab_);
    const int32_t token = !sane ? kNoToken : params_.target >= 0 ? params_.target : draw();
    args_.tokens.as<int32_t>()[row_] = token;
    float logprob = 0;
    int32_t rank = 0;
    if (wants_logprobs && token >= 0) {
      logprob = logprobs.of(original_[token]);
      rank = rank_of(token);
    }
    if (args_.logprobs) args_.logprobs.as<float>()[row_] = logprob;
    if (args_.ranks) args_.ranks.as<int32_t>()[row_] = rank;
  }

 private:
  void write_top(const LogProbs* logprobs) {
    const int64_t width = args_.top_tokens.dim(1);
    const int64_t count = logprobs ? std::min<int64_t>({params_.num_logprobs, width, vocab_}) : 0;
    int32_t* tokens = args_.top_tokens.as<int32_t>() + row_ * width;
    float* values = args_.top_logprobs.as<float>() + row_ * width;
    std::fill_n(tokens, width, kNoToken);
    std::fill_n(values, width, -kInfinity);
    if (count == 0) return;
    collect(-kInfinity);
    keep_largest(candidates_, static_cast<size_t>(count));
    for (size_t i = 0; i < candidates_.size(); ++i) {
      tokens[i] = candidates_[i].token;
      values[i] = logprobs->of(candidates_[i].value);
    }
  }

  // 1 + how many tokens come before this one.
  int32_t rank_of(int32_t token) const {
    const Candidate self{original_[token], token};
    int32_t rank = 1;
    for (int32_t t = 0; t < vocab_; ++t) rank += Candidate{original_[t], t} < self;
    return rank;
  }

  void collect(float least) {
    candidates_.clear();
    for (int32_t t = 0; t < vocab_; ++t) {
      if (logits_[t] >= least) candidates_.push_back({logits_[t], t});
    }
  }

  void apply_mask() {
    if (!args_.allowed || !args_.has_mask || !args_.has_mask.as<uint8_t>()[row_]) return;
    const int32_t* bits = args_.allowed.as<int32_t>() + row_ * args_.allowed.dim(1);
    for (int64_t t = 0; t < vocab_; ++t) {
      if (!((static_cast<uint32_t>(bits[t / 32]) >> (t % 32)) & 1u)) logits_[t] = -kInfinity;
    }
  }

  void apply_edits() {
    if (!args_.edit_starts) return;
    const int32_t* starts = args_.edit_starts.as<int32_t>();
    for (int32_t i = starts[row_]; i < starts[row_ + 1]; ++i) {
      const int32_t token = args_.edit_tokens.as<int32_t>()[i], count = args_.edit_counts.as<int32_t>()[i];
      HEARTH_CHECK(token >= 0 && token < vocab_);
      float& x = logits_[token];
      if (count != 0) x = x > 0 ? x / params_.repetition_penalty : x * params_.repetition_penalty;
      if (count > 0) x = x - params_.frequency_penalty * static_cast<float>(count) - params_.presence_penalty;
      x += args_.edit_biases.as<float>()[i];
    }
  }

  // The most likely token of the edited logits, or kNoToken where none is left.
  int32_t largest() const {
    int32_t best = kNoToken;
    for (int32_t t = 0; t < vocab_; ++t) {
      if (logits_[t] > (best < 0 ? -kInfinity : logits_[best])) best = t;
    }
    return best;
  }

  int32_t draw() {
    apply_mask();
    apply_edits();
    const int32_t best = largest();
    if (best < 0 || params_.temperature <= 0) return best;
    // From here on a value is (logit - largest) / temperature: 0 for the most likely token, whatever the temperature.
    const float top = logits_[best];
    for (int64_t t = 0; t < vocab_; ++t) logits_[t] = (logits_[t] - top) / params_.temperature;
    return truncate() ? gumbel_max(candidates_) : gumbel_max();
  }

  // Top-k, top-p, min-p; false where they leave everything. What is left stands in candidates_.
  bool truncate() {
    const bool by_k = params_.top_k > 0 && params_.top_k < vocab_;
    const bool by_p = params_.top_p<1, by_min = params_.min_p> 0;
    if (!by_k && !by_p && !by_min) return false;
    collect(std::nextafter(-kInfinity, 0.0f));
    if (by_k) keep_largest(candidates_, static_cast<size_t>(params_.top_k));
    if (by_p) {
      uint64_t total = 0;
      for (const Candidate& c : candidates_) total += mass(c.value);
      const uint64_t wanted =
          static_cast<uint64_t>(std::ceil(static_cast<double>(params_.top_p) * static_cast<double>(total)));
      uint64_t sum = 0;
      keep_until(candidates_, [&](const Candidate& c) { return (sum += mass(c.value)) >= wanted; });
    }
    if (by_min) std::erase_if(candidates_, [&](const Candidate& c) { return likelihood(c.value) < params_.min_p; });
    return true;
  }

  // Value plus Gumbel noise; the largest wins, ties to the lower id.
  float noisy(float value, int32_t token) const {
    const float u = philox_uniform(params_.seed, static_cast<uint32_t>(params_.position), static_cast<uint32_t>(token));
    return value - std::log(-std::log(u));
  }
  // No noise exceeds -log(-log(1 - 2^-24)) = 16.64, so most tokens need none drawn.
  static constexpr float kMostNoise = 17.0f;

  void offer(Candidate& best, float value, int32_t token) const {
    if (!(value + kMostNoise >= best.value)) return;
    const Candidate c{noisy(value, token), token};
    if (c < best) best = c;
  }
  int32_t gumbel_max(const std::vector<Candidate>& candidates) const {
    Candidate best{-kInfinity, std::numeric_limits<int32_t>::max()};
    for (const Candidate& c : candidates) offer(best, c.value, c.token);
    return best.token;
  }
  int32_t gumbel_max() const {
    Candidate best{-kInfinity, std::numeric_limits<int32_t>::max()};
    for (int32_t t = 0; t < vocab_; ++t) offer(best, logits_[t], t);
    return best.token;
  }

  const SampleArgs& args_;
  const int64_t row_, vocab_;
  float* const logits_;
  const SamplingRow& params_;
  std::vector<Candidate>& candidates_;
  std::vector<float> original_;
};

}  // namespace

void CpuOps::sample(const SampleArgs& args) {
  HEARTH_CHECK(args.rows.dim(1) == sizeof(SamplingRow));
  pool_.run(args.logits.dim(0), [&](int64_t begin, int64_t end, int) {
    std::vector<Candidate> candidates;
    for (int64_t row = begin; row < end; ++row) RowSampler(args, row, candidates).run();
  });
}

}  // namespace hearth
