// FireAttention for prompt tokens: 64 rows a warpgroup (tokens times the query heads of one KV head), tiles of 128 keys
// in order, running maximum, both products on WGMMA. One producer warpgroup keeps a ring of K and V tiles full (for
// e4m3 it widens them to 16 bit on the way); two or three consumers work on their own rows at their own pace, so that
// one's softmax hides behind the others' products.
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
  static constexpr int kUnits = prefill_units(kWiden);  // consumer warpgroups
  static constexpr int kThreads = 128 * (kUnits + 1);
  static constexpr int kProducerRegisters = kWiden ? 96 : 32, kConsumerRegisters = kWiden ? 200 : 160;
  static constexpr int kColumns = kHeadDim / 64;          // of 128 bytes, in 16 bit
  static constexpr int kColumnBytes = kTileTokens * 128;  // of a K or V tile
  static constexpr int kTileBytes = kColumns * kColumnBytes;
  static constexpr int kStages = 4;
  static constexpr int kRawBytes = kTileTokens * kHeadDim;  // of an e4m3 tile
  static constexpr int kRawStages = kWiden ? 3 : 1;

  struct Shared {
    alignas(1024) uint8_t query[kUnits][kColumns][64 * 128];
    alignas(1024) uint8_t tiles[kStages][kTileBytes];
    alignas(1024) uint8_t raw[kRawStages][kWiden ? kRawBytes : 1024];
    float scales[kRawStages][kWiden ? kTileTokens : 4];
    hopper::Ring<kStages> ring;
    uint64_t raw_full[kRawStages];
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

// Loads K or V of a tile; a block past the context reads as zeros.
template <typename Shape, int kRowBytes>
__device__ __forceinline__ void load_tile(uint8_t* to, const CUtensorMap* map, uint64_t* barrier,
                                          const int (&blocks)[2], int kv_heads, int kv_head, int element_bytes) {
  constexpr int kRows = kRowBytes < 128 ? kBlockSize * kRowBytes / 128 : kBlockSize;  // a box's, 128 bytes each
  constexpr int kColumns = kRowBytes < 128 ? 1 : kRowBytes / 128;
#pragma unroll
  for (int block = 0; block < 2; ++block) {
    const int row = blocks[block] < 0 ? 0x7FFFFF00 : (blocks[block] * kv_heads + kv_head) * kRows;
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      hopper::tma_load_2d(to + i * 2 * kRows * 128 + block * kRows * 128, map, barrier, i * 128 / element_bytes, row);
    }
  }
}

// 16-bit KV: one warp, tiles straight from the cache.
template <typename Shape, int kHeadDim>
__device__ void prefill_produce(const AttentionParams& p, typename Shape::Shared& shared) {
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
          load_tile<Shape, kHeadDim * 2>(shared.tiles[stage.index], is_v ? &p.v_map : &p.k_map, full, blocks,
                                         p.kv_heads, work.kv_head, 2);
        }
        __syncwarp();
        stage.advance();
      }
    }
  }
}

// One walk over K0 V0 K1 V1 ... of all items; producers of e4m3 run two of them, one to load and one to widen.
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

// e4m3 KV: all four warps of the warpgroup. Raw tiles arrive in a ring of two; thread t widens token t of the tile
// to float16, which keeps more of e4m3 times a scale than bfloat16 would.
template <typename Act, typename Shape, int kHeadDim>
__device__ void prefill_widen(const AttentionParams& p, typename Shape::Shared& shared) {
  const int thread = static_cast<int>(threadIdx.x % 128);
  PrefillWalk ahead(p), now(p);
  BlockReader reader;
  const auto load = [&](int raw) {  // by the first warp
    if (!ahead.items.live()) return;
    const PrefillItem& item = ahead.work.item;
    const int end = ahead.work.blocks(p);
    const int blocks[2] = {reader.get(p, item.sequence, 2 * ahead.tile, end),
                           reader.get(p, item.sequence, 2 * ahead.tile + 1, end)};
    if (thread == 0) {
      uint64_t* full = &shared.raw_full[raw];
      const int present = blocks[1] < 0 ? 1 : 2;
      hopper::mbarrier_arrive_expect(full, Shape::kRawBytes + present * 4 * static_cast<int>(kBlockSize));
      load_tile<Shape, kHeadDim>(shared.raw[raw], ahead.is_v ? &p.v_map : &p.k_map, full, blocks, p.kv_heads,
                                 ahead.work.kv_head, 1);
      for (int i = 0; i < present; ++i) {
        const float* from = (ahead.is_v ? p.v_scales : p.k_scales) +
                            (static_cast<int64_t>(blocks[i]) * p.kv_heads + ahead.work.kv_head) * kBlockSize;
        hopper::bulk_load(&shared.scales[raw][i * kBlockSize], from, 4 * kBlockSize, full);
      }
    }
    __syncwarp();
    ahead.advance(p);
  };
  if (thread < 32) {
    for (int i = 0; i < Shape::kRawStages; ++i) load(i);
  }
  hopper::Stage<Shape::kRawStages> raw;
  hopper::Stage<Shape::kStages> stage;
  for (; now.items.live(); now.advance(p)) {
    hopper::mbarrier_wait(&shared.raw_full[raw.index], raw.parity);
    const int row = thread % 64, block = thread / 64;
    const bool valid = now.tile * kTileTokens + thread < now.work.context(p);
    // The scale in two factors, so that float16 holds each of them whatever its size.
    const uint32_t bits = valid ? __float_as_uint(shared.scales[raw.index][thread]) : 0;
    const __half2 mantissa = __float2half2_rn(__uint_as_float((bits & 0x7FFFFF) | 0x3F800000));
    const __half2 power = __float2half2_rn(__uint_as_float(bits & 0x7F800000));
    // In the raw tile a block is a tile of its own.
    const uint8_t* from = shared.raw[raw.index] + block * static_cast<int>(kBlockSize) * kHeadDim;
    uint4 chunks[kHeadDim / 16];
#pragma unroll
    for (int i = 0; i < kHeadDim / 16; ++i) {
      chunks[i] = *reinterpret_cast<const uint4*>(from + tile_offset<kHeadDim>(row, i));
      if (!valid) chunks[i] = make_uint4(0, 0, 0, 0);
    }
    hopper::mbarrier_wait(&shared.ring.empty[stage.index], stage.parity ^ 1);
    uint8_t* to = shared.tiles[stage.index] + thread * 128;
#pragma unroll
    for (int i = 0; i < kHeadDim / 16; ++i) {
      const uint32_t words[4] = {chunks[i].x, chunks[i].y, chunks[i].z, chunks[i].w};
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
        const int chunk = 2 * i + j;  // of 8 dimensions
        *reinterpret_cast<uint4*>(to + chunk / 8 * Shape::kColumnBytes + ((chunk % 8 ^ thread % 8) << 4)) =
            *reinterpret_cast<const uint4*>(&wide[4 * j]);
      }
    }
    hopper::fence_async_proxy();
    hopper::mbarrier_arrive(&shared.ring.full[stage.index]);
    hopper::named_sync(1, 128);  // everybody has read the raw tile
    if (thread < 32) load(raw.index);
    raw.advance();
    stage.advance();
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
      for (int tile = range.first_loaded; tile <= range.last_loaded; ++tile) {
        const bool active = tile >= range.first && tile <= range.last;
        uint32_t weights[kTileTokens / 16][4];
        float rescale[2];
        hopper::mbarrier_wait(&shared_.ring.full[stage_.index], stage_.parity);
        if (active) {
          float s[kTileTokens / 2];
          score(s);
          release();
          if (tile == range.last && items.live()) {
            hopper::named_sync(2 + unit_, 128);  // the whole warpgroup is done with the query
            load_query(items.index());
          }
          if (tile >= range.causal_from || tile <= range.window_until) mask(s, index, tile);
          softmax(s, rescale, weights);
        } else {
          release();
        }
        hopper::mbarrier_wait(&shared_.ring.full[stage_.index], stage_.parity);
        if (tile == stale_tile) clear_tail(index, tile);
        if (active) weigh(weights, rescale);
        release();
      }
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

  // A descriptor that the compiler knows to be the same in all lanes, so that what is added to it costs nothing.
  __device__ static uint64_t uniform(uint64_t descriptor) {
    const uint32_t low = __shfl_sync(0xFFFFFFFFu, static_cast<uint32_t>(descriptor), 0);
    const uint32_t high = __shfl_sync(0xFFFFFFFFu, static_cast<uint32_t>(descriptor >> 32), 0);
    return static_cast<uint64_t>(high) << 32 | low;
  }
  __device__ static uint64_t moved(uint64_t descriptor, int bytes) {
    const uint32_t low = static_cast<uint32_t>(descriptor) + static_cast<uint32_t>(bytes >> 4);
    return (descriptor & 0xFFFFFFFF00000000) | low;
  }

  __device__ void score(float (&s)[kTileTokens / 2]) {
    const uint64_t q = uniform(hopper::wgmma_descriptor(shared_.query[unit_][0]));
    const uint64_t k = uniform(hopper::wgmma_descriptor(shared_.tiles[stage_.index]));
    hopper::wgmma_fence();
#pragma unroll
    for (int step = 0; step < kHeadDim / 16; ++step) {
      const int column = step / 4, inside = step % 4 * 32;
      hopper::Wgmma<Mma, kTileTokens>::run(s, moved(q, column * 64 * 128 + inside),
                                           moved(k, column * Shape::kColumnBytes + inside), step > 0);
    }
    hopper::wgmma_commit();
    hopper::wgmma_wait<0>();
    hopper::wgmma_pin(s);
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

  // s becomes probabilities relative to the new running maximum, in 16 bit, in the layout of operand A. Several
  // maxima and sums side by side keep the arithmetic from waiting for itself.
  __device__ void softmax(float (&s)[kTileTokens / 2], float (&rescale)[2], uint32_t (&weights)[kTileTokens / 16][4]) {
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
        const float a = exp2_fast(__fmaf_rn(s[4 * i + 2 * r], p_.scale, -max_[r]));
        const float b = exp2_fast(__fmaf_rn(s[4 * i + 2 * r + 1], p_.scale, -max_[r]));
        sum[r][i % kSide] += a + b;
        weights[i / 2][i % 2 * 2 + r] = Pack<Mma>::two(a, b);
      }
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {  // of this thread's columns only, until the end
      sum_[r] = __fmaf_rn(sum_[r], rescale[r], (sum[r][0] + sum[r][1]) + (sum[r][2] + sum[r][3]));
    }
  }

  __device__ void weigh(const uint32_t (&weights)[kTileTokens / 16][4], const float (&rescale)[2]) {
    if (__any_sync(0xFFFFFFFFu, rescale[0] != 1.0f || rescale[1] != 1.0f)) {  // times one changes nothing
#pragma unroll
      for (int i = 0; i < kHeadDim / 2; ++i) out_[i] *= rescale[i / 2 % 2];
    }
    const uint64_t v = uniform(hopper::wgmma_rows_descriptor(shared_.tiles[stage_.index], Shape::kColumnBytes));
    hopper::wgmma_fence();
#pragma unroll
    for (int step = 0; step < kTileTokens / 16; ++step) {
      hopper::WgmmaRows<Mma, kHeadDim>::run(out_, weights[step], moved(v, step * 16 * 128), 1);
    }
    hopper::wgmma_commit();
    hopper::wgmma_wait<0>();
    hopper::wgmma_pin(out_);
  }

  // Stale values may be NaN, and zero times NaN is NaN: all consumers clear the V rows from `first` on.
  __device__ void clear_tail(int index, int tile_index) {
    const int first = PrefillWork(p_, index).context(p_) - tile_index * kTileTokens;
    constexpr int kChunks = kHeadDim / 8;
    const int thread = static_cast<int>(threadIdx.x) - 128;
    uint8_t* tile = shared_.tiles[stage_.index];
    for (int i = first * kChunks + thread; i < kTileTokens * kChunks; i += 128 * Shape::kUnits) {
      const int chunk = i % kChunks;  // where in its row does not matter: the whole row is cleared
      *reinterpret_cast<uint4*>(tile + chunk / 8 * Shape::kColumnBytes + i / kChunks * 128 + chunk % 8 * 16) =
          make_uint4(0, 0, 0, 0);
    }
    hopper::fence_async_proxy();
    hopper::named_sync(2 + Shape::kUnits, 128 * Shape::kUnits);
  }

  __device__ void release() {
    __syncwarp();
    if (thread_ % 32 == 0) hopper::mbarrier_arrive(&shared_.ring.empty[stage_.index]);
    stage_.advance();
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
  hopper::Stage<Shape::kStages> stage_;
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
    shared.ring.init(Shape::kWiden ? 128 : 1, 4 * Shape::kUnits);
    for (uint64_t& barrier : shared.raw_full) hopper::mbarrier_init(&barrier, 1);
    for (uint64_t& barrier : shared.query_full) hopper::mbarrier_init(&barrier, 1);
    hopper::mbarrier_init_fence();
    hopper::tma_prefetch_map(&p.q_map);
    hopper::tma_prefetch_map(&p.k_map);
    hopper::tma_prefetch_map(&p.v_map);
  }
  __syncthreads();
  hopper::wait_for_previous_kernel();
  hopper::start_next_kernel();
  const int role = static_cast<int>(threadIdx.x / 128);
  if (role == 0) {
    hopper::registers_shrink<Shape::kProducerRegisters>();
    if constexpr (Shape::kWiden) {
      prefill_widen<Act, Shape, kHeadDim>(p, shared);
    } else {
      if (threadIdx.x < 32) prefill_produce<Shape, kHeadDim>(p, shared);
    }
  } else {
    hopper::registers_grow<Shape::kConsumerRegisters>();
    PrefillConsumer<Act, Kv, kHeadDim>(p, shared, role - 1).run();
  }
}

}  // namespace hearth::cuda
