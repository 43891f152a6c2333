// sample: a cluster of CTAs a row, each with an equal part of its logits in shared memory, so that a row is read from
// memory once however many passes its parameters ask for. Top-k and top-p narrow the tokens down by histograms: first
// of the distance from the largest logit, then of the bytes of the logit itself, until few enough are left for one CTA
// to sort, or, where they keep more than that, until the boundary is one token. Counts and likelihoods are integers
// there, so their sums do not depend on an order; every float sum has a fixed one.
#pragma once

#include "cuda/hopper/cluster.cuh"
#include "cuda/kernels/vector.cuh"
#include "ops/sampling.h"

namespace hearth::cuda {

constexpr int kMostSampleCtas = 8;
constexpr int kSampleThreads = 256;
constexpr int kBins = kSampleThreads;  // a thread owns one
constexpr int kMostTopTokens = 128;
constexpr int kMostSorted = 4 * kSampleThreads;
constexpr int32_t kNoToken = -1;

struct SampleParams {
  const float* logits;  // [rows, vocab]
  const SamplingRow* rows;
  const int32_t* num_rows;
  const int32_t* edit_starts;  // or null
  const int32_t* edit_tokens;
  const int32_t* edit_counts;
  const float* edit_biases;
  const uint32_t* allowed;  // [rows, mask_words], or null
  const uint8_t* has_mask;
  int32_t* tokens;
  float* logprobs;      // or null
  int32_t* ranks;       // or null
  int32_t* top_tokens;  // [rows, top_width], or null
  float* top_logprobs;
  int mask_words, top_width, vocab;
  int slice;  // logits a CTA holds, a multiple of 4
};

struct SampleShared {
  uint64_t exchange[2][kMostSampleCtas];
  uint64_t reduce[kSampleThreads / 32];
  struct Histogram {
    uint64_t weight[kBins];
    uint32_t count[kBins];
  } histograms[2];
  struct Boundary {
    uint64_t weight_above, weight;
    uint32_t bin, count_above, count, count_before_cta, count_in_cta;
  } boundary;
  int kept;
  uint32_t num_sorted[2];        // of the first CTA: those with log-probabilities, those to draw from
  uint64_t sorted[kMostSorted];  // packed
};

// The CPU's exp (cpu/simd.h), operation by operation: a likelihood has the same bits here and there.
__device__ __forceinline__ float likelihood(float x) {
  x = fminf(89.0f, fmaxf(-104.5f, x));
  const float n = rintf(__fmul_rn(x, 1.44269504f));
  float r = fmaf(n, -0.693145752f, x);
  r = fmaf(n, -1.42860677e-6f, r);
  float y = 1.0f / 5040;
  y = fmaf(y, r, 1.0f / 720);
  y = fmaf(y, r, 1.0f / 120);
  y = fmaf(y, r, 1.0f / 24);
  y = fmaf(y, r, 1.0f / 6);
  y = fmaf(y, r, 0.5f);
  y = fmaf(y, r, 1.0f);
  y = fmaf(y, r, 1.0f);
  const int whole = static_cast<int>(n), half = whole >> 1;
  return __fmul_rn(__fmul_rn(y, __int_as_float((half + 127) << 23)), __int_as_float((whole - half + 127) << 23));
}
__device__ __forceinline__ uint64_t mass(float shifted) { return static_cast<uint64_t>(likelihood(shifted) * 0x1p40f); }

// A token by value, ties to the lower id, as one integer to maximize.
__device__ __forceinline__ uint64_t packed(float value, int32_t token) {
  return static_cast<uint64_t>(float_order(value)) << 32 | ~static_cast<uint32_t>(token);
}
__device__ __forceinline__ float packed_value(uint64_t p) { return float_of_order(static_cast<uint32_t>(p >> 32)); }
__device__ __forceinline__ int32_t packed_token(uint64_t p) { return static_cast<int32_t>(~static_cast<uint32_t>(p)); }

// The same object in the shared memory of another CTA of the cluster.
template <typename T>
__device__ __forceinline__ T* remote(T* p, int cta) {
  return static_cast<T*>(__cluster_map_shared_rank(p, cta));
}

struct Largest {
  __device__ uint64_t operator()(uint64_t a, uint64_t b) const { return a > b ? a : b; }
};
struct Sum {
  __device__ uint64_t operator()(uint64_t a, uint64_t b) const { return a + b; }
  __device__ float operator()(float a, float b) const { return a + b; }
};

// A front part of the tokens in their order (value, then id): all of the bins before `bin`, of that bin the keys above
// `key`, and of that key the ids up to `last`.
struct Cut {
  uint32_t bin, key;
  int32_t last;
};
constexpr Cut kKeepAll{kBins, 0, 0};
struct Front {
  Cut cut;
  uint32_t count;  // at most so many tokens
};

__device__ __forceinline__ Cut shorter(Cut a, Cut b) {
  if (a.bin != b.bin) return a.bin < b.bin ? a : b;
  if (a.key != b.key) return a.key > b.key ? a : b;
  return a.last < b.last ? a : b;
}

template <int kCtas>
class RowSampler {
 public:
  __device__ RowSampler(const SampleParams& p, SampleShared& shared, float* values)
      : p_(p),
        shared_(shared),
        values_(values),
        cta_(static_cast<int>(hopper::cluster_rank())),
        row_(blockIdx.x / kCtas),
        begin_(min(cta_ * p.slice, p.vocab)),
        count_(min(p.slice, p.vocab - begin_)),
        logits_(p.logits + row_ * p.vocab + begin_),
        params_(p.rows[row_]) {}

  __device__ void run() {
    if (threadIdx.x < 2) shared_.num_sorted[threadIdx.x] = 0;
    hopper::cluster_arrive();  // the others have started, and seen theirs cleared, before one writes to their memory
    const uint64_t own = load();
    hopper::cluster_wait();
    uint64_t best = cluster_reduce(own, Largest{});
    const float largest = packed_value(best);
    const bool sane = best != ~uint64_t{0} && !isinf(largest);
    const bool wants_logprobs = sane && params_.num_logprobs >= 0;
    const float log_sum = wants_logprobs ? log_sum_exp(largest) : 0.0f;
    if (p_.top_tokens) write_top(wants_logprobs ? min(params_.num_logprobs, p_.top_width) : 0, largest, log_sum);

    const int32_t token = !sane ? kNoToken : params_.target >= 0 ? params_.target : draw(best);
    float logprob = 0.0f;
    int32_t rank = 0;
    if (wants_logprobs && token >= 0) {
      const float logit = p_.logits[row_ * p_.vocab + token];
      logprob = logit - largest - log_sum;
      rank = rank_of(logit, token);
    }
    if (cta_ == 0 && threadIdx.x == 0) {
      p_.tokens[row_] = token;
      if (p_.logprobs) p_.logprobs[row_] = logprob;
      if (p_.ranks) p_.ranks[row_] = rank;
    }
  }

 private:
  // Every thread gets `op` over all of them, in one order.
  template <typename T, typename Op>
  __device__ T cluster_reduce(T value, Op op) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) value = op(value, __shfl_xor_sync(~0u, value, offset));
    T* reduce = reinterpret_cast<T*>(shared_.reduce);
    if (threadIdx.x % 32 == 0) reduce[threadIdx.x / 32] = value;
    __syncthreads();
    if (threadIdx.x < kCtas) {
      value = reduce[0];
#pragma unroll
      for (int i = 1; i < kSampleThreads / 32; ++i) value = op(value, reduce[i]);
      *reinterpret_cast<T*>(remote(&shared_.exchange[turn_][cta_], threadIdx.x)) = value;
    }
    hopper::cluster_sync();
    value = *reinterpret_cast<T*>(&shared_.exchange[turn_][0]);
#pragma unroll
    for (int i = 1; i < kCtas; ++i) value = op(value, *reinterpret_cast<T*>(&shared_.exchange[turn_][i]));
    turn_ ^= 1;  // this one is written again after the next barrier but one, when all have read it
    return value;
  }

  // Fills values_; the largest of them packed, all ones where one is NaN.
  __device__ uint64_t load() {
    float best = -INFINITY;
    int32_t best_at = 0x7FFFFFFF;
    bool bad = false;
    const auto take = [&](float v, int at) {
      bad |= v != v;
      if (v > best || best_at == 0x7FFFFFFF) best = v, best_at = at;
    };
    if (p_.vocab % 4 == 0) {
#pragma unroll 4
      for (int at = threadIdx.x * 4; at < count_; at += kSampleThreads * 4) {
        const float4 v = *reinterpret_cast<const float4*>(logits_ + at);
        *reinterpret_cast<float4*>(values_ + at) = v;
        take(v.x, at), take(v.y, at + 1), take(v.z, at + 2), take(v.w, at + 3);
      }
    } else {
      for (int at = threadIdx.x; at < count_; at += kSampleThreads) {
        values_[at] = logits_[at];
        take(values_[at], at);
      }
    }
    if (bad) return ~uint64_t{0};
    return best_at == 0x7FFFFFFF ? 0 : packed(best, begin_ + best_at);
  }

  // Four neighbouring values at a time, whole warps together; those at and past count_ are anything.
  template <typename F>
  __device__ void for_quads(F f) {
    for (int base = threadIdx.x / 32 * 128; base < count_; base += kSampleThreads * 4) {
      const int at = base + threadIdx.x % 32 * 4;
      const float4 v = at < count_ ? *reinterpret_cast<const float4*>(values_ + at) : float4{};
      f({v.x, v.y, v.z, v.w}, at);
    }
  }
  template <typename F>
  __device__ void for_each(F f) {
    for (int at = threadIdx.x; at < count_; at += kSampleThreads) f(values_[at], begin_ + at);
  }

  __device__ float log_sum_exp(float largest) {
    float sum = 0.0f;
    for_each([&](float v, int32_t) { sum += likelihood(v - largest); });
    return logf(cluster_reduce(sum, Sum{}));
  }

  __device__ void write_top(int count, float largest, float log_sum) {
    const int width = p_.top_width;
    count = min(count, p_.vocab);
    if (count > 0) {
      const Front front = select<false, true>(count, {kKeepAll, static_cast<uint32_t>(p_.vocab)}, largest);
      sort<0, true>(front.cut, largest);
    }
    for (int i = threadIdx.x; cta_ == 0 && i < width; i += kSampleThreads) {
      const uint64_t top = i < count ? shared_.sorted[i] : 0;
      p_.top_tokens[row_ * width + i] = i < count ? packed_token(top) : kNoToken;
      p_.top_logprobs[row_ * width + i] = i < count ? packed_value(top) - largest - log_sum : -INFINITY;
    }
    if (count > 0) hopper::cluster_sync();  // before the place is used again
  }

  // 1 + how many tokens come before this one, by the logits as they came.
  __device__ int32_t rank_of(float logit, int32_t token) {
    uint64_t before = 0;
    for (int at = threadIdx.x; at < count_; at += kSampleThreads) {
      before += logits_[at] > logit || (logits_[at] == logit && begin_ + at < token);
    }
    return 1 + static_cast<int32_t>(cluster_reduce(before, Sum{}));
  }

  // True where the row has a mask or edits; values_ then has them.
  __device__ bool edit() {
    const bool masked = p_.allowed && p_.has_mask && p_.has_mask[row_];
    const int first = p_.edit_starts ? p_.edit_starts[row_] : 0, end = p_.edit_starts ? p_.edit_starts[row_ + 1] : 0;
    if (!masked && first == end) return false;
    __syncthreads();  // values_ were written, and are read, by whoever
    if (masked) {
      const uint32_t* bits = p_.allowed + row_ * p_.mask_words;
      for (int at = threadIdx.x; at < count_; at += kSampleThreads) {
        const int token = begin_ + at;
        if (!(bits[token / 32] >> (token % 32) & 1u)) values_[at] = -INFINITY;
      }
      __syncthreads();
    }
    for (int i = first + threadIdx.x; i < end; i += kSampleThreads) {
      const int at = p_.edit_tokens[i] - begin_, times = p_.edit_counts[i];
      if (at < 0 || at >= count_) continue;
      float x = values_[at];
      if (times != 0) {
        x = x > 0 ? __fdiv_rn(x, params_.repetition_penalty) : __fmul_rn(x, params_.repetition_penalty);
      }
      if (times > 0) {
        x = __fsub_rn(__fsub_rn(x, __fmul_rn(params_.frequency_penalty, static_cast<float>(times))),
                      params_.presence_penalty);
      }
      values_[at] = __fadd_rn(x, p_.edit_biases[i]);
    }
    __syncthreads();
    return true;
  }

  __device__ int32_t draw(uint64_t best) {
    if (edit()) {
      uint64_t own = 0;
      for_each([&](float v, int32_t token) { own = Largest{}(own, packed(v, token)); });
      best = cluster_reduce(own, Largest{});
    }
    const float top = packed_value(best);
    if (!(top > -INFINITY)) return kNoToken;
    if (params_.temperature <= 0) return packed_token(best);
    const bool by_k = params_.top_k > 0 && params_.top_k < p_.vocab;
    if (!by_k && params_.top_p >= 1 && params_.min_p <= 0) {
      return packed_token(cluster_reduce(noisiest(top, packed_token(best)), Largest{}));
    }
    __syncthreads();
    for (int at = threadIdx.x; at < count_; at += kSampleThreads) values_[at] = tempered(values_[at], top);
    __syncthreads();

    Front front{kKeepAll, static_cast<uint32_t>(p_.vocab)};
    uint64_t total = 0;
    if (by_k) front = select<false, false>(params_.top_k, front, 0.0f);
    if (params_.top_p < 1 && (!by_k || front.count > kMostSorted)) {
      for_each([&](float v, int32_t token) {
        if (keeps(front.cut, 0.0f, v, token)) total += mass(v);
      });
      total = cluster_reduce(total, Sum{});
      front = select<true, false>(share_of(total), front, 0.0f);
    }
    uint64_t winner = 0;
    if (front.count <= kMostSorted) {
      winner = draw_sorted(front.cut, by_k ? params_.top_k : p_.vocab, total);
    } else {
      for_each([&](float v, int32_t token) {
        if (v > -INFINITY && keeps(front.cut, 0.0f, v, token)) winner = Largest{}(winner, drawn(v, token));
      });
    }
    return packed_token(cluster_reduce(winner, Largest{}));
  }

  __device__ uint64_t share_of(uint64_t total) const {
    const double share = ceil(static_cast<double>(params_.top_p) * static_cast<double>(total));
    return share > 0 ? static_cast<uint64_t>(share) : 1;
  }
  // A token's noisy value, none where it is too unlikely.
  __device__ uint64_t drawn(float v, int32_t token) const {
    return params_.min_p > 0 && likelihood(v) < params_.min_p ? 0 : packed(noisy(v, token), token);
  }

  // The largest noisy value of the tokens that top-k and top-p leave of those that `cut` keeps; in the first CTA.
  // total: of all likelihoods, or 0: of those that top-k leaves.
  __device__ uint64_t draw_sorted(Cut cut, int top_k, uint64_t total) {
    const int count = sort<1, false>(cut, 0.0f);
    if (cta_ != 0) return 0;
    int kept = min(count, top_k);
    if (params_.top_p < 1) {
      constexpr int kEach = kMostSorted / kSampleThreads;
      uint64_t weight[kEach], own = 0, sum = 0;
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        const int at = threadIdx.x * kEach + i;
        weight[i] = at < kept ? mass(packed_value(shared_.sorted[at])) : 0;
        own += weight[i];
      }
      uint64_t upto = block_scan(own, sum) - own;
      const uint64_t wanted = share_of(total > 0 ? total : sum);
      if (threadIdx.x == 0) shared_.kept = kept;
      __syncthreads();
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        if (upto < wanted && upto + weight[i] >= wanted) shared_.kept = threadIdx.x * kEach + i + 1;
        upto += weight[i];
      }
      __syncthreads();
      kept = shared_.kept;
    }
    uint64_t winner = 0;
    for (int i = threadIdx.x; i < kept; i += kSampleThreads) {
      winner = Largest{}(winner, drawn(packed_value(shared_.sorted[i]), packed_token(shared_.sorted[i])));
    }
    return winner;
  }

  // Brings what `cut` keeps, at most kMostSorted tokens, to the first CTA, in order; returns their number there.
  template <int kUse, bool kInfinite>
  __device__ int sort(Cut cut, float top) {
    SampleShared& first = *remote(&shared_, 0);
    for_each([&](float v, int32_t token) {
      if ((!kInfinite && !(v > -INFINITY)) || !keeps(cut, top, v, token)) return;
      first.sorted[atomicAdd(&first.num_sorted[kUse], 1u)] = packed(v, token);
    });
    hopper::cluster_sync();
    if (cta_ != 0) return 0;
    const int count = static_cast<int>(shared_.num_sorted[kUse]);
    const int size = count <= 1 ? 1 : 1 << (32 - __clz(count - 1));
    for (int i = count + threadIdx.x; i < size; i += kSampleThreads) shared_.sorted[i] = 0;
    __syncthreads();
    // Batcher 1968, bitonic sort.
    for (int run = 2; run <= size; run *= 2) {
      for (int apart = run / 2; apart > 0; apart /= 2) {
        for (int i = threadIdx.x; i < size / 2; i += kSampleThreads) {
          const int at = i / apart * apart * 2 + i % apart;
          const uint64_t a = shared_.sorted[at], b = shared_.sorted[at + apart];
          if ((a < b) == ((at & run) == 0)) shared_.sorted[at] = b, shared_.sorted[at + apart] = a;
        }
        __syncthreads();
      }
    }
    return count;
  }

  __device__ float noisy(float value, int32_t token) const {
    const float u = philox_uniform(params_.seed, static_cast<uint32_t>(params_.position), static_cast<uint32_t>(token));
    return value - logf(-logf(u));
  }

  // What is drawn from: 0 for the most likely token.
  __device__ float tempered(float logit, float top) const {
    return __fdiv_rn(__fsub_rn(logit, top), params_.temperature);
  }

  // The largest noisy value of this thread's tokens. Noise is first made with the fast logarithm, and exactly only
  // where that comes near the largest that the warp knows of, to begin with that of the most likely token; a token so
  // far below that no noise lifts it there needs none.
  __device__ uint64_t noisiest(float top, int32_t likely) {
    constexpr float kFastError = 0.01f;  // more than the fast noise is ever off
    constexpr float kMostNoise = 17.0f;  // -log(-log(1 - 2^-24)) is 16.64
    uint64_t best = 0;
    float warp_best = noisy(0.0f, likely);
    for_quads([&](const float(&logit)[4], int at) {
      float value[4], fast[4], most = -INFINITY;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        value[i] = at + i < count_ ? tempered(logit[i], top) : -INFINITY;
        most = fmaxf(most, value[i]);
      }
      if (!__any_sync(~0u, most + kMostNoise > warp_best)) return;
      const PhiloxWords random =
          philox(params_.seed, static_cast<uint32_t>(params_.position), static_cast<uint32_t>(begin_ + at) / 4);
      most = -INFINITY;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float u = uniform_of_bits(random.word[i]), w = 1.0f - u;   // exact; near u = 1 the series is,
        const float e = w < 0.01f ? w * (1.0f + 0.5f * w) : -__logf(u);  // and the fast logarithm is not
        fast[i] = value[i] - __logf(e);
        most = fmaxf(most, fast[i]);
      }
      warp_best = fmaxf(warp_best, float_of_order(__reduce_max_sync(~0u, float_order(most))));
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (fast[i] <= warp_best - kFastError) continue;
        const float noise = logf(-logf(uniform_of_bits(random.word[i])));
        best = Largest{}(best, packed(value[i] - noise, begin_ + at + i));
      }
    });
    return best;
  }

  // The coarse order: how far below `top`, in steps of 1 / 12.75, the last bin for all beyond 20. Monotone in v.
  static __device__ uint32_t bin_of(float top, float v) {
    return static_cast<uint32_t>(fminf(static_cast<float>(kBins - 1), __fmul_rn(__fsub_rn(top, v), 12.75f)));
  }
  static __device__ bool keeps(const Cut& cut, float top, float v, int32_t token) {
    const uint32_t bin = bin_of(top, v);
    if (bin != cut.bin) return bin < cut.bin;
    const uint32_t key = float_order(v);
    return key != cut.key ? key > cut.key : token <= cut.last;
  }

  // The shortest front part of `within` whose tokens (kMass: whose likelihoods) sum to `wanted`, or a longer one that
  // can be sorted; `within` itself where all of it does not. kInfinite: tokens at -infinity count too.
  template <bool kMass, bool kInfinite>
  __device__ Front select(uint64_t wanted, Front within, float top) {
    Cut cut{0, 0, 0x7FFFFFFF};
    uint64_t above = 0;
    uint32_t count_above = 0, count = 0;
    for (int level = 0; level <= 4; ++level) {
      auto& histogram = shared_.histograms[histogram_turn_];
      histogram.weight[threadIdx.x] = 0;
      histogram.count[threadIdx.x] = 0;
      __syncthreads();
      const int shift = 32 - 8 * level;
      uint64_t last_weight = 0;
      uint32_t last_count = 0;  // most tokens fall into the last coarse bin: those are summed here first
      for_each([&](float v, int32_t token) {
        if ((!kInfinite && !(v > -INFINITY)) || !keeps(within.cut, top, v, token)) return;
        uint32_t bin = bin_of(top, v);
        if (level > 0) {
          const uint32_t key = float_order(v);
          if (bin != cut.bin || (level > 1 && (key ^ cut.key) >> (shift + 8))) return;
          bin = kBins - 1 - (key >> shift & 0xFF);
        }
        const uint64_t weight = kMass ? mass(v) : 1;
        if (bin == kBins - 1) {
          last_weight += weight, ++last_count;
        } else {
          add(&histogram.weight[bin], weight);
          atomicAdd(&histogram.count[bin], 1u);
        }
      });
      if (last_count) {
        add(&histogram.weight[kBins - 1], last_weight);
        atomicAdd(&histogram.count[kBins - 1], last_count);
      }
      hopper::cluster_sync();
      const bool found = find_boundary(above, wanted);
      histogram_turn_ ^= 1;
      if (!found) return within;

      const SampleShared::Boundary b = shared_.boundary;
      __syncthreads();
      above = b.weight_above;
      if (level == 0) {
        cut.bin = b.bin;
      } else {
        cut.key |= (kBins - 1 - b.bin) << shift;
      }
      count_above += b.count_above;
      count = count_above + b.count;
      // Short enough, or all that `within` has in the boundary bin belongs to the part: no need to look into it.
      if (count <= kMostSorted || b.count == 1 || (!kMass && above + b.weight == wanted)) break;
      if (level == 4) {  // equal values: the first few by id
        const uint64_t each = b.weight / b.count, few = (wanted - above + each - 1) / each;
        cut.last = nth_of_key(cut, few, b, top);
        count = count_above + static_cast<uint32_t>(few);
      }
    }
    return {shorter(cut, within.cut), min(count, within.count)};
  }

  static __device__ void add(uint64_t* to, uint64_t value) {
    atomicAdd(reinterpret_cast<unsigned long long*>(to), static_cast<unsigned long long>(value));
  }

  // Inclusive sum over the threads before, and over all.
  template <typename T>
  __device__ T block_scan(T value, T& total) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    T* reduce = reinterpret_cast<T*>(shared_.reduce);
#pragma unroll
    for (int offset = 1; offset < 32; offset *= 2) {
      const T left = __shfl_up_sync(~0u, value, offset);
      if (lane >= offset) value += left;
    }
    if (lane == 31) reduce[warp] = value;
    __syncthreads();
    total = 0;
#pragma unroll
    for (int i = 0; i < kSampleThreads / 32; ++i) {
      if (i < warp) value += reduce[i];
      total += reduce[i];
    }
    __syncthreads();
    return value;
  }

  // Sums the cluster's histograms, finds the bin in which `above` plus the bins up to it reaches `wanted`.
  __device__ bool find_boundary(uint64_t above, uint64_t wanted) {
    const int bin = threadIdx.x;
    uint64_t weight = 0, all_weight;
    uint32_t count = 0, before = 0, own = 0, all;
#pragma unroll
    for (int i = 0; i < kCtas; ++i) {
      const auto& histogram = *remote(&shared_.histograms[histogram_turn_], i);
      weight += histogram.weight[bin];
      const uint32_t n = histogram.count[bin];
      if (i < cta_) before += n;
      if (i == cta_) own = n;
      count += n;
    }
    const uint64_t upto = above + block_scan(weight, all_weight);
    const uint32_t count_upto = block_scan(count, all);
    const bool found = upto >= wanted && upto - weight < wanted;
    if (found) {
      shared_.boundary = {upto - weight, weight, static_cast<uint32_t>(bin), count_upto - count, count, before, own};
    }
    return __syncthreads_or(found);
  }

  // The id of the n-th token of the cut's key.
  __device__ int32_t nth_of_key(const Cut& cut, uint64_t n, const SampleShared::Boundary& b, float top) {
    uint64_t id = 0;
    if (threadIdx.x < 32 && n > b.count_before_cta && n <= b.count_before_cta + b.count_in_cta) {
      int left = static_cast<int>(n - b.count_before_cta);
      for (int base = 0; base < count_; base += 32) {
        const int at = base + threadIdx.x;
        const float v = at < count_ ? values_[at] : 0.0f;
        const uint32_t equal =
            __ballot_sync(~0u, at < count_ && bin_of(top, v) == cut.bin && float_order(v) == cut.key);
        if (left <= __popc(equal)) {
          id = begin_ + base + __fns(equal, 0, left);
          break;
        }
        left -= __popc(equal);
      }
    }
    return static_cast<int32_t>(cluster_reduce(id, Largest{}));
  }

  const SampleParams& p_;
  SampleShared& shared_;
  float* const values_;
  const int cta_;
  const int64_t row_;
  const int begin_, count_;
  const float* const logits_;
  const SamplingRow params_;
  int turn_ = 0, histogram_turn_ = 0;
};

template <int kCtas>
__global__ __launch_bounds__(kSampleThreads, 4) void sample_kernel(const __grid_constant__ SampleParams p) {
  extern __shared__ float4 slice[];
  __shared__ SampleShared shared;
  hopper::wait_for_previous_kernel();
  hopper::start_next_kernel();
  if (p.num_rows && blockIdx.x / kCtas >= *p.num_rows) return;  // the whole cluster
  RowSampler<kCtas>(p, shared, reinterpret_cast<float*>(slice)).run();
}

}  // namespace hearth::cuda
