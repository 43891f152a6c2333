// FireAttention for prompt tokens: 64 rows a warpgroup (tokens times the query heads of one KV head), tiles of 128 keys
// in order, running maximum, both products on WGMMA. A warp keeps rings of K and of V tiles full by tensor copies; with
// an e4m3 cache it reads wide pages (widen_kv.cuh). Two consumers work on their own rows at their own pace, and start
// the next tile's S before this one's P V, so that a softmax hides behind products.
//
//   producer   K0 V0 K1 V1 K2 V2 ...            two rings of tiles, 128 tokens each
//   consumer   S = Q K^T | softmax | O += P V   each, P stays in registers
#pragma once

#include "cuda/kernels/fire_attention_prefill_load.cuh"

namespace hearth::cuda {

// A consumer warpgroup's state and steps; a thread holds rows `row` and row + 8 of its warp's 16.
template <typename Act, int kHeadDim>
class PrefillConsumer {
 public:
  using Shape = PrefillShape<kHeadDim>;
  using Shared = typename Shape::Shared;

  __device__ PrefillConsumer(const AttentionParams& p, Shared& shared, int unit)
      : p_(p), shared_(shared), unit_(unit), thread_(static_cast<int>(threadIdx.x % 128)) {}

  __device__ void run() {
    uint32_t query_parity = 0;
    load_query(0);
    for (int index = 0; index < shared_.items; ++index) {
      const Range range(p_, work(index), unit_);
      const int stale_tile = stale_from(index, range.last_loaded);
#pragma unroll
      for (float& o : out_) o = 0.0f;
      max_[0] = max_[1] = kLowest;
      sum_[0] = sum_[1] = 0.0f;
      if (range.any()) {
        hopper::mbarrier_wait(&shared_.query_full[unit_], query_parity);
        query_parity ^= 1;
      } else {
        load_query(index + 1);
      }
      // The next tile's scores are under way before this one's values are weighed, so that the tensor cores have work
      // during a softmax.
      int tile = range.first_loaded;
      for (; tile < range.first && tile <= range.last_loaded; ++tile) pass(tile, stale_tile, index);
      if (range.any()) {
        float s[kTileTokens / 2];
        uint32_t weights[kTileTokens / 16][4];
        float rescale[2];
        start_score(s);
        finish_score<0>(s, index, range, range.first);
        softmax(s, rescale);
        pack(s, weights);
        for (tile = range.first + 1; tile <= range.last; ++tile) {
          start_score(s);
          start_weigh(weights);
          finish_score<1>(s, index, range, tile);
          softmax(s, rescale);
          finish_weigh();
          scale_out(rescale);
          pack(s, weights);
        }
        hopper::mbarrier_wait(&shared_.value_ring.full[v_stage_.index], v_stage_.parity);
        if (range.last == stale_tile) clear_tail(index, range.last);
        start_weigh(weights);
        finish_weigh();
      }
      for (; tile <= range.last_loaded; ++tile) pass(tile, stale_tile, index);
      if (range.any()) store(index);
    }
  }

 private:
  static constexpr float kLowest = -1e30f;  // finite, so that differences of maxima are numbers

  // Tiles of an item: those loaded for all warpgroups, and those this one needs. The item itself is read again where it
  // is wanted: registers are scarce in the loop over tiles.
  struct Range {
    int first_loaded, last_loaded, first, last;
    int causal_from, window_until;  // tiles at and past the one, at and before the other need a mask
    __device__ Range(const AttentionParams& p, const PrefillWork& work, int unit) {
      first_loaded = work.first_tile(p.window);
      last_loaded = work.last_tile();
      const int tokens = prefill_tokens(p.group), mine = min(tokens, work.item.rows - unit * tokens);
      const int begin = work.item.position + unit * tokens, end = begin + mine;
      first = first_visible(begin, p.window) / kTileTokens;
      last = mine > 0 ? (end - 1) / kTileTokens : -1;
      causal_from = (begin + 1) / kTileTokens;
      window_until = p.window > 0 ? (end - 1 - p.window) / kTileTokens : -1;
      if (p.window > 0 && end - 1 < p.window) window_until = -1;
    }
    __device__ bool any() const { return last >= 0; }
  };

  // The item's last tile if it holds stale values, else -1.
  __device__ int stale_from(int index, int last_tile) const {
    return work(index).context < (last_tile + 1) * kTileTokens ? last_tile : -1;
  }

  __device__ PrefillWork work(int index) const { return prefill_work(p_, shared_, index); }

  __device__ int warp_row() const { return thread_ / 32 * 16 + thread_ % 32 / 4; }

  // This warpgroup's rows of an item; by one thread, when nobody reads the place any more.
  __device__ void load_query(int index) {
    if (thread_ != 0 || index >= shared_.items) return;
    const PrefillWork work = this->work(index);
    const int tokens = prefill_tokens(p_.group);
    if (work.item.rows <= unit_ * tokens) return;
    uint64_t* full = &shared_.query_full[unit_];
    hopper::mbarrier_arrive_expect(full, Shape::kColumns * tokens * p_.group * 128);
#pragma unroll
    for (int i = 0; i < Shape::kColumns; ++i) {
      hopper::tma_load_3d(shared_.query[unit_][i], &p_.q_map, full, i * 64, work.kv_head * p_.group,
                          work.item.row + unit_ * tokens);
    }
  }

  // A tile that none of this warpgroup's rows sees.
  __device__ void pass(int tile, int stale_tile, int index) {
    hopper::mbarrier_wait(&shared_.key_ring.full[k_stage_.index], k_stage_.parity);
    release_keys();
    hopper::mbarrier_wait(&shared_.value_ring.full[v_stage_.index], v_stage_.parity);
    if (tile == stale_tile) clear_tail(index, tile);
    release_values();
  }

  __device__ void start_score(float (&s)[kTileTokens / 2]) {
    hopper::mbarrier_wait(&shared_.key_ring.full[k_stage_.index], k_stage_.parity);
    const uint64_t q = hopper::wgmma_uniform(hopper::wgmma_descriptor(shared_.query[unit_][0]));
    const uint64_t k = hopper::wgmma_uniform(hopper::wgmma_descriptor(shared_.keys[k_stage_.index]));
    hopper::wgmma_fence();
#pragma unroll
    for (int step = 0; step < kHeadDim / 16; ++step) {
      hopper::Wgmma<Act, kTileTokens>::run(s, hopper::wgmma_moved(q, step / 4 * 64 * 128 + step % 4 * 32),
                                           hopper::wgmma_moved(k, step / 4 * Shape::kColumnBytes + step % 4 * 32),
                                           step > 0);
    }
    hopper::wgmma_commit();
  }

  template <int kPending>
  __device__ void finish_score(float (&s)[kTileTokens / 2], int index, const Range& range, int tile) {
    hopper::wgmma_wait<kPending>();
    hopper::wgmma_pin(s);
    release_keys();
    if (tile == range.last && index + 1 < shared_.items) {
      hopper::named_sync(2 + unit_, 128);  // the whole warpgroup is done with the query
      load_query(index + 1);
    }
    if (tile >= range.causal_from || tile <= range.window_until) mask(s, index, tile);
  }

  __device__ void mask(float (&s)[kTileTokens / 2], int index, int tile) {
    const int begin = work(index).item.position + unit_ * prefill_tokens(p_.group) - tile * kTileTokens;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int at = begin + (warp_row() + 8 * r) / p_.group - thread_ % 4 * 2;  // the row's last key, from my first
      const int until = p_.window > 0 ? at - p_.window : -0x7FFFFFFF;
#pragma unroll
      for (int i = 0; i < kTileTokens / 8; ++i) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          if (8 * i + j > at || 8 * i + j <= until) s[4 * i + 2 * r + j] = -INFINITY;
        }
      }
    }
  }

  // s becomes probabilities relative to the new running maximum. Several maxima and sums side by side keep the
  // arithmetic from waiting for itself.
  __device__ void softmax(float (&s)[kTileTokens / 2], float (&rescale)[2]) {
    constexpr int kSide = 4;
    float top[2][kSide], sum[2][kSide] = {};
#pragma unroll
    for (int i = 0; i < kTileTokens / 8; ++i) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float pair = fmaxf(s[4 * i + 2 * r], s[4 * i + 2 * r + 1]);
        top[r][i % kSide] = i < kSide ? pair : fmaxf(top[r][i % kSide], pair);
      }
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      top[r][0] = fmaxf(fmaxf(top[r][0], top[r][1]), fmaxf(top[r][2], top[r][3]));
      top[r][0] = fmaxf(top[r][0], __shfl_xor_sync(0xFFFFFFFFu, top[r][0], 1));
      top[r][0] = fmaxf(top[r][0], __shfl_xor_sync(0xFFFFFFFFu, top[r][0], 2));
      const float now = fmaxf(max_[r], top[r][0] * p_.scale);
      rescale[r] = exp2_fast(max_[r] - now);
      max_[r] = now;
    }
#pragma unroll
    for (int i = 0; i < kTileTokens / 8; ++i) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        float &a = s[4 * i + 2 * r], &b = s[4 * i + 2 * r + 1];
        a = exp2_fast(__fmaf_rn(a, p_.scale, -max_[r]));
        b = exp2_fast(__fmaf_rn(b, p_.scale, -max_[r]));
        sum[r][i % kSide] += a + b;
      }
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {  // of this thread's columns only, until the end
      sum_[r] = __fmaf_rn(sum_[r], rescale[r], (sum[r][0] + sum[r][1]) + (sum[r][2] + sum[r][3]));
    }
  }

  // Probabilities in 16 bit, in the layout of operand A.
  __device__ static void pack(const float (&s)[kTileTokens / 2], uint32_t (&weights)[kTileTokens / 16][4]) {
#pragma unroll
    for (int i = 0; i < kTileTokens / 8; ++i) {
#pragma unroll
      for (int r = 0; r < 2; ++r)
        weights[i / 2][i % 2 * 2 + r] = Pack<Act>::two(s[4 * i + 2 * r], s[4 * i + 2 * r + 1]);
    }
  }

  __device__ void scale_out(const float (&rescale)[2]) {
    if (__any_sync(0xFFFFFFFFu, rescale[0] != 1.0f || rescale[1] != 1.0f)) {  // times one changes nothing
#pragma unroll
      for (int i = 0; i < kHeadDim / 2; ++i) out_[i] *= rescale[i / 2 % 2];
    }
  }

  __device__ void start_weigh(const uint32_t (&weights)[kTileTokens / 16][4]) {
    hopper::mbarrier_wait(&shared_.value_ring.full[v_stage_.index], v_stage_.parity);
    const uint64_t v =
        hopper::wgmma_uniform(hopper::wgmma_rows_descriptor(shared_.values[v_stage_.index], Shape::kColumnBytes));
    hopper::wgmma_fence();
#pragma unroll
    for (int step = 0; step < kTileTokens / 16; ++step) {
      hopper::WgmmaRows<Act, kHeadDim>::run(out_, weights[step], hopper::wgmma_moved(v, step * 16 * 128), 1);
    }
    hopper::wgmma_commit();
  }
  __device__ void finish_weigh() {
    hopper::wgmma_wait<0>();
    hopper::wgmma_pin(out_);
    release_values();
  }

  // Stale values may be NaN, and zero times NaN is NaN: all consumers clear the V rows from the context's end on.
  __device__ void clear_tail(int index, int tile_index) {
    const int first = work(index).context - tile_index * kTileTokens;
    constexpr int kChunks = kHeadDim / 8;
    const int thread = static_cast<int>(threadIdx.x) - 128;
    uint8_t* tile = shared_.values[v_stage_.index];
    for (int i = first * kChunks + thread; i < kTileTokens * kChunks; i += 128 * Shape::kUnits) {
      const int chunk = i % kChunks;  // where in its row does not matter: the whole row is cleared
      *reinterpret_cast<uint4*>(tile + chunk / 8 * Shape::kColumnBytes + i / kChunks * 128 + chunk % 8 * 16) =
          make_uint4(0, 0, 0, 0);
    }
    hopper::fence_async_proxy();
    hopper::named_sync(2 + Shape::kUnits, 128 * Shape::kUnits);
  }

  __device__ void release_keys() {
    __syncwarp();
    if (thread_ % 32 == 0) hopper::mbarrier_arrive(&shared_.key_ring.empty[k_stage_.index]);
    k_stage_.advance();
  }
  __device__ void release_values() {
    __syncwarp();
    if (thread_ % 32 == 0) hopper::mbarrier_arrive(&shared_.value_ring.empty[v_stage_.index]);
    v_stage_.advance();
  }

  __device__ void store(int index) {
    const PrefillWork work = this->work(index);
    const int first = unit_ * prefill_tokens(p_.group);
    const int tokens = min(prefill_tokens(p_.group), work.item.rows - first);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float sum = sum_[r];
      sum += __shfl_xor_sync(0xFFFFFFFFu, sum, 1);
      sum += __shfl_xor_sync(0xFFFFFFFFu, sum, 2);
      const int row = warp_row() + 8 * r, token = row / p_.group;
      if (p_.sinks) sum += sink_weight(p_, work.kv_head * p_.group + row % p_.group, max_[r]);
      const float inverse = 1.0f / sum * p_.out_factor;
      const int64_t at = (static_cast<int64_t>(work.item.row + first + token) * p_.kv_heads + work.kv_head) * p_.group +
                         row % p_.group;
      if (p_.out_e4m3) {
        auto* to = reinterpret_cast<uint64_t*>(static_cast<uint8_t*>(p_.out) + at * kHeadDim) + thread_ % 4;
#pragma unroll
        for (int i = 0; i < kHeadDim / 8; i += 4) {
          uint64_t items = 0;  // columns 2 (thread % 4) and the next of every 8 of 32
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            const float* out = out_ + 4 * (i + j) + 2 * r;
            const uint32_t pair = Pack<F16>::two(out[0] * inverse, out[1] * inverse);
            items |= static_cast<uint64_t>(narrow_row_e4m3(pair)) << (16 * j);
          }
          const uint64_t eight = trade_in_quad(items);
          if (token < tokens) to[i] = eight;
        }
      } else if (token < tokens) {
        auto* to = reinterpret_cast<uint32_t*>(static_cast<uint16_t*>(p_.out) + at * kHeadDim) + thread_ % 4;
#pragma unroll
        for (int i = 0; i < kHeadDim / 8; ++i) {
          to[4 * i] = Pack<Act>::two(out_[4 * i + 2 * r] * inverse, out_[4 * i + 2 * r + 1] * inverse);
        }
      }
    }
  }

  const AttentionParams& p_;
  Shared& shared_;
  const int unit_, thread_;
  hopper::Stage<Shape::kStages> k_stage_, v_stage_;
  float out_[kHeadDim / 2];
  float max_[2], sum_[2];
};

template <typename Act, int kHeadDim>
__device__ void fire_attention_prefill(const AttentionParams& p) {
  using Shape = PrefillShape<kHeadDim>;
  using Shared = typename Shape::Shared;
  extern __shared__ uint8_t raw_shared[];
  Shared& shared = *reinterpret_cast<Shared*>((reinterpret_cast<uintptr_t>(raw_shared) + 1023) & ~uintptr_t{1023});
  if (threadIdx.x == 0) {
    shared.key_ring.init(1, 4 * Shape::kUnits);
    shared.value_ring.init(1, 4 * Shape::kUnits);
    for (uint64_t& barrier : shared.query_full) hopper::mbarrier_init(&barrier, 1);
    hopper::mbarrier_init_fence();
    hopper::tma_prefetch_map(&p.q_map);
    hopper::tma_prefetch_map(&p.k_map);
    hopper::tma_prefetch_map(&p.v_map);
  }
  __syncthreads();
  hopper::wait_for_previous_kernel();
  hopper::start_next_kernel();
  const PrefillRounds rounds(p);
  if (threadIdx.x < kPrefillWorks && static_cast<int>(threadIdx.x) < rounds.count()) {
    shared.works[threadIdx.x] = PrefillWork(p, rounds.index(static_cast<int>(threadIdx.x)));
  }
  if (threadIdx.x == 0) shared.items = rounds.count();
  __syncthreads();
  const int role = static_cast<int>(threadIdx.x / 128);
  if (role == 0) {
    hopper::registers_shrink<Shape::kProducerRegisters>();
    if (threadIdx.x < 32) prefill_produce<Shape>(p, shared);
  } else {
    hopper::registers_grow<Shape::kConsumerRegisters>();
    PrefillConsumer<Act, kHeadDim>(p, shared, role - 1).run();
  }
}

}  // namespace hearth::cuda
