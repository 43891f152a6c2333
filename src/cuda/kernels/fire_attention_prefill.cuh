// FireAttention for prompt tokens: 64 rows a warpgroup (tokens times the query heads of one KV head), tiles of 128 keys
// in order, running maximum, both products on WGMMA. Producers keep a ring of K and V tiles full (a warp by
// tensor copies; for e4m3 two warpgroups that widen to 16 bit on the way); two consumers work on their own rows at
// their own pace, and start the next tile's S before this one's P V, so that a softmax hides behind products.
//
//   producer   K0 V0 K1 V1 K2 V2 ...            ring of tiles, 128 tokens each
//   consumer   S = Q K^T | softmax | O += P V   each, P stays in registers
#pragma once

#include "cuda/hopper/cluster.cuh"
#include "cuda/hopper/pipeline.cuh"
#include "cuda/hopper/tma.cuh"
#include "cuda/hopper/wgmma.cuh"
#include "cuda/kernels/attention_types.cuh"
#include "cuda/kernels/tree_fold.cuh"

namespace hearth::cuda {

constexpr int kTileTokens = 128;

template <typename Act, typename Kv, int kHeadDim>
struct PrefillShape {
  static constexpr bool kWiden = std::is_same_v<Kv, E4M3>;
  static constexpr int kUnits = kPrefillUnits;       // consumer warpgroups
  static constexpr int kProducers = kWiden ? 2 : 1;  // warpgroups
  static constexpr int kThreads = 128 * (kUnits + kProducers);
  static constexpr int kProducerRegisters = kWiden ? 56 : 24, kConsumerRegisters = kWiden ? 200 : 240;
  static constexpr int kColumns = kHeadDim / 64;          // of 128 bytes, in 16 bit
  static constexpr int kColumnBytes = kTileTokens * 128;  // of a K or V tile
  static constexpr int kTileBytes = kColumns * kColumnBytes;
  static constexpr int kStages = kWiden ? 6 : 4;

  struct Shared {
    alignas(1024) uint8_t query[kUnits][kColumns][64 * 128];
    alignas(1024) uint8_t tiles[kStages][kTileBytes];
    hopper::Ring<kStages> ring;
    uint64_t query_full[kUnits];
  };
  static constexpr int kSharedBytes = static_cast<int>(sizeof(Shared)) + 1024;
};

// The items of one CTA: rounds over the list, longest items first, every other round backwards, which evens out their
// lengths.
class PrefillItems {
 public:
  __device__ PrefillItems(const AttentionParams& p)
      : total_(p.plan.header->prefill_items * p.kv_heads), index_(static_cast<int>(blockIdx.x)) {}
  __device__ bool live() const { return index_ < total_; }
  __device__ int index() const { return index_; }
  __device__ void advance() {
    const int grid = static_cast<int>(gridDim.x), cta = static_cast<int>(blockIdx.x);
    forward_ = !forward_;
    index_ += forward_ ? 2 * cta + 1 : 2 * (grid - 1 - cta) + 1;
  }

 private:
  int total_, index_;
  bool forward_ = true;
};

// An item with what follows from it.
struct PrefillWork {
  PrefillItem item;
  int kv_head;
  int first_tile, last_tile;
  __device__ PrefillWork(const AttentionParams& p, int index)
      : item(p.plan.prefill[index / p.kv_heads]), kv_head(index % p.kv_heads) {
    first_tile = first_visible(item.position, p.window) / kTileTokens;
    last_tile = (item.position + item.rows - 1) / kTileTokens;
  }
  // Tokens past this one are stale in the item's last tile.
  __device__ int context(const AttentionParams& p) const { return p.context_lens[item.sequence]; }
  __device__ int blocks(const AttentionParams& p) const {
    return (context(p) + static_cast<int>(kBlockSize) - 1) / static_cast<int>(kBlockSize);
  }
};

// Physical blocks of consecutive blocks of a sequence, read 32 at a time by a warp; -1 past the last.
class BlockReader {
 public:
  __device__ int get(const AttentionParams& p, int sequence, int block, int end) {
    const int base = block & ~31;
    if (sequence != sequence_ || base != base_) {
      sequence_ = sequence;
      base_ = base;
      const int mine = base + static_cast<int>(threadIdx.x % 32);
      blocks_ = mine < end ? p.block_tables[sequence * p.max_blocks + mine] : -1;
    }
    return block < end ? __shfl_sync(0xFFFFFFFFu, blocks_, block % 32) : -1;
  }

 private:
  int sequence_ = -1, base_ = 0, blocks_ = -1;
};

// 16-bit KV: one warp, tiles straight from the cache.
template <typename Shape, int kHeadDim>
__device__ void prefill_produce(const AttentionParams& p, typename Shape::Shared& shared) {
  constexpr int kBlockTokens = static_cast<int>(kBlockSize);
  hopper::Stage<Shape::kStages> stage;
  BlockReader reader;
  for (PrefillItems items(p); items.live(); items.advance()) {
    const PrefillWork work(p, items.index());
    const int end = work.blocks(p);
    for (int tile = work.first_tile; tile <= work.last_tile; ++tile) {
      const int blocks[2] = {reader.get(p, work.item.sequence, 2 * tile, end),
                             reader.get(p, work.item.sequence, 2 * tile + 1, end)};
      for (int is_v = 0; is_v < 2; ++is_v) {
        hopper::mbarrier_wait(&shared.ring.empty[stage.index], stage.parity ^ 1);
        if (threadIdx.x % 32 == 0) {
          uint64_t* full = &shared.ring.full[stage.index];
          hopper::mbarrier_arrive_expect(full, Shape::kTileBytes);
          const CUtensorMap* map = is_v ? &p.v_map : &p.k_map;
#pragma unroll
          for (int block = 0; block < 2; ++block) {
            // A block past the context reads as zeros.
            const int row = blocks[block] < 0 ? 0x7FFFFF00 : (blocks[block] * p.kv_heads + work.kv_head) * kBlockTokens;
#pragma unroll
            for (int i = 0; i < Shape::kColumns; ++i) {
              hopper::tma_load_2d(shared.tiles[stage.index] + (2 * i + block) * kBlockTokens * 128, map, full, i * 64,
                                  row);
            }
          }
        }
        __syncwarp();
        stage.advance();
      }
    }
  }
}

// A walk over K0 V0 K1 V1 ... of all items.
struct PrefillWalk {
  PrefillItems items;
  PrefillWork work;
  int tile;
  bool is_v = false;
  __device__ PrefillWalk(const AttentionParams& p) : items(p), work(p, items.live() ? items.index() : 0) {
    tile = work.first_tile;
  }
  __device__ void advance(const AttentionParams& p) {
    is_v = !is_v;
    if (is_v || ++tile <= work.last_tile) return;
    items.advance();
    if (!items.live()) return;
    work = PrefillWork(p, items.index());
    tile = work.first_tile;
  }
};

// e4m3 KV: two warpgroups read tiles into registers, one ahead, and leave them in the ring in float16, which keeps more
// of e4m3 times a scale than bfloat16 would. Tokens past the context become zeros.
template <typename Shape, int kHeadDim>
__device__ void prefill_widen(const AttentionParams& p, typename Shape::Shared& shared) {
  constexpr int kChunks = kHeadDim / 16, kApart = 128 * Shape::kProducers / kChunks, kEach = kTileTokens / kApart;
  const int chunk = static_cast<int>(threadIdx.x) % kChunks, first = static_cast<int>(threadIdx.x) / kChunks;
  PrefillWalk walk(p);
  BlockReader reader;
  uint4 data[kEach];
  float scale[kEach];
  const auto load = [&] {
    const int sequence = walk.work.item.sequence, context = walk.work.context(p), end = walk.work.blocks(p);
    const int blocks[2] = {reader.get(p, sequence, 2 * walk.tile, end),
                           reader.get(p, sequence, 2 * walk.tile + 1, end)};
    const auto* cache = static_cast<const uint4*>(walk.is_v ? p.v : p.k);
    const float* scales = walk.is_v ? p.v_scales : p.k_scales;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int token = first + i * kApart;
      data[i] = make_uint4(0, 0, 0, 0);
      scale[i] = 0.0f;
      if (walk.tile * kTileTokens + token < context) {
        const int64_t block = blocks[token / static_cast<int>(kBlockSize)];
        const int64_t row = (block * p.kv_heads + walk.work.kv_head) * kBlockSize + token % kBlockSize;
        data[i] = __ldg(cache + row * kChunks + chunk);
        scale[i] = __ldg(scales + row);
      }
    }
  };
  if (!walk.items.live()) return;
  load();
  for (hopper::Stage<Shape::kStages> stage;; stage.advance()) {
    hopper::mbarrier_wait(&shared.ring.empty[stage.index], stage.parity ^ 1);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int token = first + i * kApart;
      uint8_t* to = shared.tiles[stage.index] + chunk / 4 * Shape::kColumnBytes + token * 128;
      // The scale in two factors, so that float16 holds each of them whatever its size.
      const uint32_t bits = __float_as_uint(scale[i]);
      const __half2 mantissa = __float2half2_rn(__uint_as_float((bits & 0x7FFFFF) | 0x3F800000));
      const __half2 power = __float2half2_rn(__uint_as_float(bits & 0x7F800000));
      const uint32_t words[4] = {data[i].x, data[i].y, data[i].z, data[i].w};
      __half2 wide[8];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        uint32_t low, high;
        widen_e4m3(words[j], low, high);
        wide[2 * j] = __hmul2(__hmul2(*reinterpret_cast<const __half2*>(&low), mantissa), power);
        wide[2 * j + 1] = __hmul2(__hmul2(*reinterpret_cast<const __half2*>(&high), mantissa), power);
      }
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        *reinterpret_cast<uint4*>(to + ((chunk % 4 * 2 + j ^ token % 8) << 4)) =
            *reinterpret_cast<const uint4*>(&wide[4 * j]);
      }
    }
    hopper::fence_async_proxy();
    __syncwarp();
    if (threadIdx.x % 32 == 0) hopper::mbarrier_arrive(&shared.ring.full[stage.index]);
    walk.advance(p);
    if (!walk.items.live()) return;
    load();
  }
}

// A consumer warpgroup's state and steps; a thread holds rows `row` and row + 8 of its warp's 16.
template <typename Act, typename Kv, int kHeadDim>
class PrefillConsumer {
 public:
  using Shape = PrefillShape<Act, Kv, kHeadDim>;
  using Shared = typename Shape::Shared;
  using Mma = MmaType<Act, Kv>;

  __device__ PrefillConsumer(const AttentionParams& p, Shared& shared, int unit)
      : p_(p), shared_(shared), unit_(unit), thread_(static_cast<int>(threadIdx.x % 128)) {}

  __device__ void run() {
    uint32_t query_parity = 0;
    PrefillItems items(p_);
    if (items.live()) load_query(items.index());
    while (items.live()) {
      const int index = items.index();
      items.advance();
      const Range range(p_, index, unit_);
      const int stale_tile = stale_from(index, range.last_loaded);
#pragma unroll
      for (float& o : out_) o = 0.0f;
      max_[0] = max_[1] = kLowest;
      sum_[0] = sum_[1] = 0.0f;
      if (range.any()) {
        hopper::mbarrier_wait(&shared_.query_full[unit_], query_parity);
        query_parity ^= 1;
        if constexpr (!std::is_same_v<Act, Mma>) convert_query();
      } else if (items.live()) {
        load_query(items.index());
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
        finish_score<0>(s, index, range, range.first, items);
        softmax(s, rescale);
        pack(s, weights);
        for (tile = range.first + 1; tile <= range.last; ++tile) {
          start_score(s);
          start_weigh(weights);
          finish_score<1>(s, index, range, tile, items);
          softmax(s, rescale);
          finish_weigh();
          scale_out(rescale);
          pack(s, weights);
        }
        hopper::mbarrier_wait(&shared_.ring.full[v_stage_.index], v_stage_.parity);
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
    __device__ Range(const AttentionParams& p, int index, int unit) {
      const PrefillWork work(p, index);
      first_loaded = work.first_tile;
      last_loaded = work.last_tile;
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

  // The item's last tile if it holds stale values (nobody cleared them on the way), else -1.
  __device__ int stale_from(int index, int last_tile) const {
    if (Shape::kWiden) return -1;
    return PrefillWork(p_, index).context(p_) < (last_tile + 1) * kTileTokens ? last_tile : -1;
  }

  __device__ int warp_row() const { return thread_ / 32 * 16 + thread_ % 32 / 4; }

  // This warpgroup's rows of an item; by one thread, when nobody reads the place any more.
  __device__ void load_query(int index) {
    if (thread_ != 0) return;
    const PrefillWork work(p_, index);
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

  // bfloat16 to float16, in place.
  __device__ void convert_query() {
    auto* query = reinterpret_cast<uint4*>(shared_.query[unit_][0]);
#pragma unroll
    for (int i = 0; i < Shape::kColumns * 4; ++i) {
      uint4 v = query[i * 128 + thread_];
      v = make_uint4(bf16_to_f16(v.x), bf16_to_f16(v.y), bf16_to_f16(v.z), bf16_to_f16(v.w));
      query[i * 128 + thread_] = v;
    }
    hopper::fence_async_proxy();
    hopper::named_sync(2 + unit_, 128);
  }

  // A tile that none of this warpgroup's rows sees.
  __device__ void pass(int tile, int stale_tile, int index) {
    hopper::mbarrier_wait(&shared_.ring.full[k_stage_.index], k_stage_.parity);
    release(k_stage_);
    hopper::mbarrier_wait(&shared_.ring.full[v_stage_.index], v_stage_.parity);
    if (tile == stale_tile) clear_tail(index, tile);
    release(v_stage_);
  }

  __device__ void start_score(float (&s)[kTileTokens / 2]) {
    hopper::mbarrier_wait(&shared_.ring.full[k_stage_.index], k_stage_.parity);
    const uint64_t q = hopper::wgmma_uniform(hopper::wgmma_descriptor(shared_.query[unit_][0]));
    const uint64_t k = hopper::wgmma_uniform(hopper::wgmma_descriptor(shared_.tiles[k_stage_.index]));
    hopper::wgmma_fence();
#pragma unroll
    for (int step = 0; step < kHeadDim / 16; ++step) {
      const int column = step / 4, inside = step % 4 * 32;
      hopper::Wgmma<Mma, kTileTokens>::run(s, hopper::wgmma_moved(q, column * 64 * 128 + inside),
                                           hopper::wgmma_moved(k, column * Shape::kColumnBytes + inside), step > 0);
    }
    hopper::wgmma_commit();
  }

  template <int kPending>
  __device__ void finish_score(float (&s)[kTileTokens / 2], int index, const Range& range, int tile,
                               const PrefillItems& items) {
    hopper::wgmma_wait<kPending>();
    hopper::wgmma_pin(s);
    release(k_stage_);
    if (tile == range.last && items.live()) {
      hopper::named_sync(2 + unit_, 128);  // the whole warpgroup is done with the query
      load_query(items.index());
    }
    if (tile >= range.causal_from || tile <= range.window_until) mask(s, index, tile);
  }

  __device__ void mask(float (&s)[kTileTokens / 2], int index, int tile) {
    const int begin = PrefillWork(p_, index).item.position + unit_ * prefill_tokens(p_.group) - tile * kTileTokens;
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
        weights[i / 2][i % 2 * 2 + r] = Pack<Mma>::two(s[4 * i + 2 * r], s[4 * i + 2 * r + 1]);
    }
  }

  __device__ void scale_out(const float (&rescale)[2]) {
    if (__any_sync(0xFFFFFFFFu, rescale[0] != 1.0f || rescale[1] != 1.0f)) {  // times one changes nothing
#pragma unroll
      for (int i = 0; i < kHeadDim / 2; ++i) out_[i] *= rescale[i / 2 % 2];
    }
  }

  __device__ void start_weigh(const uint32_t (&weights)[kTileTokens / 16][4]) {
    hopper::mbarrier_wait(&shared_.ring.full[v_stage_.index], v_stage_.parity);
    const uint64_t v =
        hopper::wgmma_uniform(hopper::wgmma_rows_descriptor(shared_.tiles[v_stage_.index], Shape::kColumnBytes));
    hopper::wgmma_fence();
#pragma unroll
    for (int step = 0; step < kTileTokens / 16; ++step) {
      hopper::WgmmaRows<Mma, kHeadDim>::run(out_, weights[step], hopper::wgmma_moved(v, step * 16 * 128), 1);
    }
    hopper::wgmma_commit();
  }
  __device__ void finish_weigh() {
    hopper::wgmma_wait<0>();
    hopper::wgmma_pin(out_);
    release(v_stage_);
  }

  // Stale values may be NaN, and zero times NaN is NaN: all consumers clear the V rows from `first` on.
  __device__ void clear_tail(int index, int tile_index) {
    const int first = PrefillWork(p_, index).context(p_) - tile_index * kTileTokens;
    constexpr int kChunks = kHeadDim / 8;
    const int thread = static_cast<int>(threadIdx.x) - 128 * Shape::kProducers;
    uint8_t* tile = shared_.tiles[v_stage_.index];
    for (int i = first * kChunks + thread; i < kTileTokens * kChunks; i += 128 * Shape::kUnits) {
      const int chunk = i % kChunks;  // where in its row does not matter: the whole row is cleared
      *reinterpret_cast<uint4*>(tile + chunk / 8 * Shape::kColumnBytes + i / kChunks * 128 + chunk % 8 * 16) =
          make_uint4(0, 0, 0, 0);
    }
    hopper::fence_async_proxy();
    hopper::named_sync(2 + Shape::kUnits, 128 * Shape::kUnits);
  }

  // A place of K or V, and on to the next of the same.
  __device__ void release(hopper::Stage<Shape::kStages>& stage) {
    __syncwarp();
    if (thread_ % 32 == 0) hopper::mbarrier_arrive(&shared_.ring.empty[stage.index]);
    stage.advance();
    stage.advance();
  }

  __device__ void store(int index) {
    const PrefillWork work(p_, index);
    const int first = unit_ * prefill_tokens(p_.group);
    const int tokens = min(prefill_tokens(p_.group), work.item.rows - first);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float sum = sum_[r];
      sum += __shfl_xor_sync(0xFFFFFFFFu, sum, 1);
      sum += __shfl_xor_sync(0xFFFFFFFFu, sum, 2);
      const float inverse = 1.0f / sum;
      const int row = warp_row() + 8 * r, token = row / p_.group;
      const int64_t at = (static_cast<int64_t>(work.item.row + first + token) * p_.kv_heads + work.kv_head) * p_.group +
                         row % p_.group;
      auto* to = reinterpret_cast<uint32_t*>(static_cast<uint16_t*>(p_.out) + at * kHeadDim) + thread_ % 4;
      if (token < tokens) {
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
  hopper::Stage<Shape::kStages> k_stage_, v_stage_{1, 0};
  float out_[kHeadDim / 2];
  float max_[2], sum_[2];
};

template <typename Act, typename Kv, int kHeadDim>
__device__ void fire_attention_prefill(const AttentionParams& p) {
  using Shape = PrefillShape<Act, Kv, kHeadDim>;
  using Shared = typename Shape::Shared;
  extern __shared__ uint8_t raw_shared[];
  Shared& shared = *reinterpret_cast<Shared*>((reinterpret_cast<uintptr_t>(raw_shared) + 1023) & ~uintptr_t{1023});
  if (threadIdx.x == 0) {
    shared.ring.init(Shape::kWiden ? 4 * Shape::kProducers : 1, 4 * Shape::kUnits);
    for (uint64_t& barrier : shared.query_full) hopper::mbarrier_init(&barrier, 1);
    hopper::mbarrier_init_fence();
    hopper::tma_prefetch_map(&p.q_map);
    if constexpr (!Shape::kWiden) {
      hopper::tma_prefetch_map(&p.k_map);
      hopper::tma_prefetch_map(&p.v_map);
    }
  }
  __syncthreads();
  hopper::wait_for_previous_kernel();
  hopper::start_next_kernel();
  const int role = static_cast<int>(threadIdx.x / 128);
  if (role < Shape::kProducers) {
    hopper::registers_shrink<Shape::kProducerRegisters>();
    if constexpr (Shape::kWiden) {
      prefill_widen<Shape, kHeadDim>(p, shared);
    } else {
      if (threadIdx.x < 32) prefill_produce<Shape, kHeadDim>(p, shared);
    }
  } else {
    hopper::registers_grow<Shape::kConsumerRegisters>();
    PrefillConsumer<Act, Kv, kHeadDim>(p, shared, role - Shape::kProducers).run();
  }
}

}  // namespace hearth::cuda
