// FireAttention for generated tokens: one query row, the keys and values of its blocks streamed through shared memory
// at the speed of HBM.
//
//   feeders (4 warps)    item and query, then K0 V0 K1 V1 ... into the consumers' rings, over the ends of items
//   consumers (4, 8)     block n belongs to warp n % 8 (or 4), which makes it a leaf of the row's tree: S = Q K^T with
//   the query
//                        heads of a KV head on the rows, softmax, O^T = V^T P^T, whose operand P^T is S's accumulator
//                        as it lies in the registers; the leaf goes to the warp's place in shared memory
//   folders (4 warps)    merge the leaves in the row's fixed tree (kernels/tree_fold.cuh), write the result, or a
//   partial
//                        one; the last CTA of a row to come by merges those
//
// The three know each other through mbarriers only, so none waits for a slow one until a buffer is full.
#pragma once

#include "cuda/hopper/cluster.cuh"
#include "cuda/hopper/tma.cuh"
#include "cuda/kernels/attention_types.cuh"
#include "cuda/kernels/tree_fold.cuh"
#include "cuda/kernels/warp_mma.cuh"

namespace hearth::cuda {

template <typename Act, typename Kv, int kHeadDim>
struct DecodeShape {
  static constexpr bool kScaled = std::is_same_v<Kv, E4M3>;
  static constexpr int kRowBytes = kHeadDim * static_cast<int>(sizeof(Kv));
  static constexpr int kTileBytes = kRowBytes * static_cast<int>(kBlockSize);
  static constexpr int kScaleBytes = kScaled ? 4 * static_cast<int>(kBlockSize) : 0;
  static constexpr int kDimTiles = kHeadDim / 16;
  static constexpr int kConsumers = kTileBytes > 8192 ? 4 : 8;
  static constexpr int kFolders = 16 * kDimTiles;  // threads: four values of a leaf each, for every four heads
  static constexpr int kFeeders = 4;  // one thread issues a tile in some 0.3 us: too slow for a whole multiprocessor
  static constexpr int kThreads = 32 * (kConsumers + kFeeders) + kFolders;
  static constexpr int kItemSlots = 4;
  static constexpr int kMaxTiles = 6;
  static_assert(kTileBytes % 1024 == 0 && (kHeadDim == 64 || kHeadDim == 128));

  struct ItemSlot {
    DecodeItem item;
    alignas(16) uint16_t query[8 * kHeadDim];
  };
  // Behind it lie the tiles, their scales, and the leaves, as many as the launch has room for.
  struct Shared {
    ItemSlot items[kItemSlots];
    float leaf_max[kConsumers][8], leaf_sum[kConsumers][8];
    uint64_t full[kConsumers * kMaxTiles], empty[kConsumers * kMaxTiles];
    uint64_t leaf_full[kConsumers], leaf_empty[kConsumers];
    uint64_t item_full[kItemSlots], item_empty[kItemSlots];
    int32_t last_arrival;
  };
  static constexpr int kFixedBytes = (static_cast<int>(sizeof(Shared)) + 1023) / 1024 * 1024;
  // float4 values of a leaf: [halves][kDimTiles][16].
  static constexpr int leaf_bytes(int halves) { return halves * kFolders * 16; }
  static constexpr int halves(int group) { return (group + 3) / 4; }
  static constexpr int shared_bytes(int tiles, int group) {
    return 1024 + kFixedBytes + kConsumers * tiles * (kTileBytes + kScaleBytes) +
           kConsumers * leaf_bytes(halves(group));
  }
  // Tiles a consumer.
  static constexpr int tiles_that_fit(int limit, int group) {
    const int tiles = (limit - shared_bytes(0, group)) / (kConsumers * (kTileBytes + kScaleBytes));
    return tiles < kMaxTiles ? tiles : kMaxTiles;
  }
};

// The launch's shared memory.
template <typename Shape>
struct DecodeMemory {
  typename Shape::Shared& fixed;
  uint8_t* tiles;
  float* scales;
  float4* leaves;
  __device__ DecodeMemory(uint8_t* base, int tiles_each)
      : fixed(*reinterpret_cast<typename Shape::Shared*>(base)),
        tiles(base + Shape::kFixedBytes),
        scales(reinterpret_cast<float*>(tiles + Shape::kConsumers * tiles_each * Shape::kTileBytes)),
        leaves(reinterpret_cast<float4*>(reinterpret_cast<uint8_t*>(scales) +
                                         Shape::kConsumers * tiles_each * Shape::kScaleBytes)) {}
};

// A place in a consumer's ring of tiles, whose length the launch decides.
struct TilePlace {
  int index = 0;
  uint32_t parity = 0;
  __device__ void advance(int count) {
    if (++index == count) index = 0, parity ^= 1;
  }
};
// The items of a CTA and their slots.
struct ItemWalk {
  int item = static_cast<int>(blockIdx.x), slot = 0;
  uint32_t parity = 0;
  __device__ void advance(int slots) {
    item += static_cast<int>(gridDim.x);
    if (++slot == slots) slot = 0, parity ^= 1;
  }
};

// Feeder f serves consumers f, f + kFeeders, ...; the first also brings the items.
template <typename Shape, int kHeadDim, typename Kv>
class DecodeFeeder {
 public:
  __device__ DecodeFeeder(const AttentionParams& p, const DecodeMemory<Shape>& memory, int feeder)
      : p_(p), memory_(memory), feeder_(feeder), lane_(static_cast<int>(threadIdx.x % 32)) {}

  __device__ void run() {
    const int first = min(static_cast<int>(blockIdx.x) / p_.kv_heads, p_.plan.decode_capacity - 1);
    DecodeItem next = p_.plan.decode[first];  // with the header, not after it; may be past the list's end
    const int total = p_.plan.header->decode_items * p_.kv_heads;
    TilePlace place;  // of the next tile, the same in the ring of every consumer of mine until all have had their block
    int turn = feeder_;  // blocks until the next of mine
    int consumer = feeder_;
    for (ItemWalk walk; walk.item < total; walk.advance(Shape::kItemSlots)) {
      const DecodeItem item = next;
      const int kv_head = walk.item % p_.kv_heads;
      const int32_t* table = p_.block_tables + item.sequence * p_.max_blocks;
      int base = item.begin;  // of the 32 ids that the lanes hold
      int id = base + lane_ < item.end ? table[base + lane_] : 0;
      const int after = walk.item + static_cast<int>(gridDim.x);
      if (after < total) next = p_.plan.decode[after / p_.kv_heads];
      if (feeder_ == 0) bring_item(walk, item, kv_head);
      int block = item.begin + turn;
      for (; block < item.end; block += Shape::kFeeders) {
        if (block - base >= 32) {
          base += (block - base) / 32 * 32;
          id = base + lane_ < item.end ? table[base + lane_] : 0;
        }
        const int64_t physical = __shfl_sync(0xFFFFFFFFu, id, block - base);
        const int64_t row = (physical * p_.kv_heads + kv_head) * kBlockSize;
        TilePlace at = place;
        bring_tile(consumer * p_.decode_tiles + at.index, at.parity, p_.k_map, p_.k_scales, row);
        at.advance(p_.decode_tiles);
        bring_tile(consumer * p_.decode_tiles + at.index, at.parity, p_.v_map, p_.v_scales, row);
        at.advance(p_.decode_tiles);
        if ((consumer += Shape::kFeeders) >= Shape::kConsumers) {
          consumer = feeder_;
          place = at;
        }
      }
      turn = block - item.end;
    }
  }

 private:
  __device__ void bring_item(const ItemWalk& walk, const DecodeItem& item, int kv_head) {
    auto& fixed = memory_.fixed;
    hopper::mbarrier_wait(&fixed.item_empty[walk.slot], walk.parity ^ 1);
    if (lane_ == 0) {
      auto& slot = fixed.items[walk.slot];
      uint64_t* full = &fixed.item_full[walk.slot];
      const auto bytes = static_cast<uint32_t>(p_.group * kHeadDim * 2);
      hopper::mbarrier_arrive_expect(full, bytes + sizeof(DecodeItem));
      hopper::bulk_load(&slot.item, &p_.plan.decode[walk.item / p_.kv_heads], sizeof(DecodeItem), full);
      hopper::bulk_load(slot.query,
                        static_cast<const uint16_t*>(p_.q) + item.row * p_.q_stride + kv_head * p_.group * kHeadDim,
                        bytes, full);
    }
    __syncwarp();
  }

  __device__ void bring_tile(int slot, uint32_t parity, const CUtensorMap& map, const float* scales, int64_t row) {
    constexpr int kRows = Shape::kRowBytes < 128 ? kBlockSize * Shape::kRowBytes / 128 : kBlockSize;  // a box's
    constexpr int kColumns = Shape::kRowBytes < 128 ? 1 : Shape::kRowBytes / 128;
    auto& fixed = memory_.fixed;
    hopper::mbarrier_wait(&fixed.empty[slot], parity ^ 1);
    if (lane_ == 0) {
      uint64_t* full = &fixed.full[slot];
      uint8_t* tile = memory_.tiles + slot * Shape::kTileBytes;
      hopper::mbarrier_arrive_expect(full, Shape::kTileBytes + Shape::kScaleBytes);
#pragma unroll
      for (int i = 0; i < kColumns; ++i) {
        hopper::tma_load_2d(tile + i * kBlockSize * 128, &map, full, i * 128 / static_cast<int>(sizeof(Kv)),
                            static_cast<int>(row / (kBlockSize / kRows)));
      }
      if constexpr (Shape::kScaled) {
        hopper::bulk_load(memory_.scales + slot * kBlockSize, scales + row, Shape::kScaleBytes, full);
      }
    }
    __syncwarp();
  }

  const AttentionParams& p_;
  const DecodeMemory<Shape>& memory_;
  const int feeder_, lane_;
};

// One block of one KV head, folded by a warp: accumulators of O^T (two heads a lane); max and sum are those of head
// lane / 4.
template <int kDimTiles>
struct Leaf {
  float value[kDimTiles][4];
  float max, sum;
};

template <typename Act, typename Kv, int kHeadDim>
class DecodeConsumer {
 public:
  using Shape = DecodeShape<Act, Kv, kHeadDim>;
  using Mma = MmaType<Act, Kv>;
  using State = Leaf<Shape::kDimTiles>;
  static constexpr int kRowBytes = Shape::kRowBytes;
  static constexpr int kLoads = kRowBytes / 64;                           // 16-byte loads a lane needs of one K row
  static constexpr int kSteps = 16 / (4 * static_cast<int>(sizeof(Kv)));  // k-steps in 16 bytes
  static constexpr int kBlock = static_cast<int>(kBlockSize);

  __device__ DecodeConsumer(const AttentionParams& p, const DecodeMemory<Shape>& memory)
      : p_(p), memory_(memory), warp_(static_cast<int>(threadIdx.x / 32)), lane_(static_cast<int>(threadIdx.x % 32)) {}

  __device__ void run() {
    const int total = p_.plan.header->decode_items * p_.kv_heads;
    const int halves = Shape::halves(p_.group);
    auto& fixed = memory_.fixed;
    float4* const leaf_place = memory_.leaves + warp_ * halves * Shape::kFolders;
    uint32_t leaf_parity = 1;
    int turn = warp_;  // blocks until the next of mine
    for (ItemWalk walk; walk.item < total; walk.advance(Shape::kItemSlots)) {
      hopper::mbarrier_wait(&fixed.item_full[walk.slot], walk.parity);
      const auto& slot = fixed.items[walk.slot];
      const int begin = slot.item.begin, end = slot.item.end;
      const int first = slot.item.first_token, last = slot.item.position;
      if (begin + turn < end) load_query(slot.query);
      __syncwarp();
      if (lane_ == 0) hopper::mbarrier_arrive(&fixed.item_empty[walk.slot]);
      int block = begin + turn;
      for (; block < end; block += Shape::kConsumers) {
        State leaf;
        make_leaf(leaf, first - block * kBlock, last - block * kBlock);
        hopper::mbarrier_wait(&fixed.leaf_empty[warp_], leaf_parity);
        leaf_parity ^= 1;
        const int half = lane_ % 4 / 2;
        if (half < halves) {
#pragma unroll
          for (int i = 0; i < Shape::kDimTiles; ++i) {
            leaf_place[half * Shape::kFolders + i * 16 + lane_ / 4 * 2 + lane_ % 2] =
                make_float4(leaf.value[i][0], leaf.value[i][1], leaf.value[i][2], leaf.value[i][3]);
          }
        }
        if (lane_ % 4 == 0) {
          fixed.leaf_max[warp_][lane_ / 4] = leaf.max;
          fixed.leaf_sum[warp_][lane_ / 4] = leaf.sum;
        }
        __syncwarp();
        if (lane_ == 0) hopper::mbarrier_arrive(&fixed.leaf_full[warp_]);
      }
      turn = block - end;
    }
  }

 private:
  // The 16-byte chunk of a K row that this lane takes in its load-th load; pairs of rows then miss each other's banks.
  __device__ int chunk_of(int load) const {
    if constexpr (kRowBytes == 64) return lane_ % 4;
    return load / 2 * 8 + lane_ % 4 * 2 + load % 2;
  }

  // The query heads of the item in the order in which K's chunks arrive; rows past the group are zero.
  __device__ void load_query(const uint16_t* query) {
    const int head = lane_ / 4;
#pragma unroll
    for (int load = 0; load < kLoads; ++load) {
#pragma unroll
      for (int part = 0; part < kSteps / 2; ++part) {  // 8 elements, two k-steps
        uint4 v = make_uint4(0, 0, 0, 0);
        const int element = chunk_of(load) * (16 / static_cast<int>(sizeof(Kv))) + part * 8;
        if (head < p_.group) v = *reinterpret_cast<const uint4*>(query + head * kHeadDim + element);
        uint32_t words[4] = {v.x, v.y, v.z, v.w};
        if constexpr (std::is_same_v<Mma, F16> && std::is_same_v<Act, BF16>) {
#pragma unroll
          for (uint32_t& word : words) word = bf16_to_f16(word);
        }
        const int step = load * kSteps + part * 2;
        query_[step][0] = words[0];
        query_[step][1] = words[1];
        query_[step + 1][0] = words[2];
        query_[step + 1][1] = words[3];
      }
    }
  }

  __device__ int tile_slot() const { return warp_ * p_.decode_tiles + place_.index; }
  __device__ void wait_tile() { hopper::mbarrier_wait(&memory_.fixed.full[tile_slot()], place_.parity); }
  // The tile has been read by all lanes.
  __device__ void release_tile() {
    __syncwarp();
    if (lane_ == 0) hopper::mbarrier_arrive(&memory_.fixed.empty[tile_slot()]);
    place_.advance(p_.decode_tiles);
  }
  __device__ uint8_t* tile() const { return memory_.tiles + tile_slot() * Shape::kTileBytes; }

  // Tokens first .. last of the next block (which may lie before 0 or behind 63) become a leaf.
  __device__ void make_leaf(State& leaf, int first, int last) {
    const int column = lane_ % 4 * 2;
    float s[8][4];  // S[head lane / 4][token 8 i + column + {0, 1}]; the other two belong to the rows left empty
#pragma unroll
    for (auto& tile : s) tile[0] = tile[1] = tile[2] = tile[3] = 0.0f;
    wait_tile();
    score(s);
    float2 scales[8];
    if constexpr (Shape::kScaled) load_scales(scales);
    release_tile();

    float top = -INFINITY;
    const bool cut = first > 0 || last < kBlock - 1;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        if constexpr (Shape::kScaled) s[i][j] *= j ? scales[i].y : scales[i].x;
        s[i][j] *= p_.scale;
        const int token = 8 * i + column + j;
        if (cut && (token < first || token > last)) s[i][j] = -INFINITY;
        top = fmaxf(top, s[i][j]);
      }
    }
    top = fmaxf(top, __shfl_xor_sync(0xFFFFFFFFu, top, 1));
    top = fmaxf(top, __shfl_xor_sync(0xFFFFFFFFu, top, 2));
    leaf.max = top;
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        s[i][j] = exp2_fast(s[i][j] - top);
        sum += s[i][j];
      }
    }
    sum += __shfl_xor_sync(0xFFFFFFFFu, sum, 1);
    sum += __shfl_xor_sync(0xFFFFFFFFu, sum, 2);
    leaf.sum = sum;

    wait_tile();
    float common = 1.0f;  // power of two that keeps probability times scale in float16's range
    if constexpr (Shape::kScaled) {
      load_scales(scales);
      float largest = 0.0f;
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const int token = 8 * i + column;
        if (cut && (token < first || token > last)) scales[i].x = 0.0f;
        if (cut && (token + 1 < first || token + 1 > last)) scales[i].y = 0.0f;
        largest = fmaxf(largest, fmaxf(scales[i].x, scales[i].y));
      }
      largest = fmaxf(largest, __shfl_xor_sync(0xFFFFFFFFu, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(0xFFFFFFFFu, largest, 2));
      // 2^floor(log2(largest)), held away from the ends so that its reciprocal is exact.
      const uint32_t exponent = min(max(__float_as_uint(largest) >> 23, 2u), 252u);
      common = __uint_as_float(exponent << 23);
      const float inverse = __uint_as_float((254 - exponent) << 23);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        s[i][0] *= scales[i].x * inverse;
        s[i][1] *= scales[i].y * inverse;
      }
    }
    if (last < kBlock - 1) clear_tail(last + 1);
    weigh(leaf, s);
    release_tile();
    if constexpr (Shape::kScaled) {
#pragma unroll
      for (auto& tile : leaf.value) {
#pragma unroll
        for (float& v : tile) v *= common;
      }
    }
  }

  __device__ void load_scales(float2 (&scales)[8]) const {
    const auto* from = reinterpret_cast<const float2*>(memory_.scales + tile_slot() * kBlock);
#pragma unroll
    for (int i = 0; i < 8; ++i) scales[i] = from[4 * i + lane_ % 4];
  }

  // S += Q K^T over the K tile. The k index of a product may be any permutation of the head's dimensions as long as Q
  // follows it: a lane's four values of a k-step are neighbours in memory.
  __device__ void score(float (&s)[8][4]) const {
    const uint32_t tile = hopper::shared_address(this->tile());
#pragma unroll
    for (int load = 0; load < kLoads; ++load) {
      const int chunk = chunk_of(load);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const uint4 v = load_shared_16(tile + tile_offset<kRowBytes>(8 * i + lane_ / 4, chunk));
        const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int step = 0; step < kSteps; ++step) {
          const uint32_t(&a)[2] = query_[load * kSteps + step];
          uint32_t low, high;
          if constexpr (Shape::kScaled) {
            widen_e4m3(words[step], low, high);
          } else {
            low = words[2 * step];
            high = words[2 * step + 1];
          }
          WarpMma<Mma>::run(s[i], a[0], 0, a[1], 0, low, high);
        }
      }
    }
  }

  // O^T = V^T P^T over the V tile. In e4m3 a 16-bit unit of the transposing load is two neighbouring dimensions, so the
  // rows of a product are even dimensions, then odd ones.
  __device__ void weigh(State& leaf, const float (&s)[8][4]) const {
#pragma unroll
    for (auto& tile : leaf.value) tile[0] = tile[1] = tile[2] = tile[3] = 0.0f;
    const uint32_t tile = hopper::shared_address(this->tile());
#pragma unroll
    for (int step = 0; step < 4; ++step) {  // 16 tokens
      const uint32_t low = Pack<Mma>::two(s[2 * step][0], s[2 * step][1]);
      const uint32_t high = Pack<Mma>::two(s[2 * step + 1][0], s[2 * step + 1][1]);
      if constexpr (Shape::kScaled) {
        const int token = 16 * step + lane_ % 16;
#pragma unroll
        for (int i = 0; i < Shape::kDimTiles; i += 2) {
          uint32_t v[4];  // tokens 0-7 and 8-15 of 16 dimensions, then of the next 16
          load_transposed(v, tile + tile_offset<kRowBytes>(token, i + lane_ / 16));
#pragma unroll
          for (int j = 0; j < 2; ++j) {
            uint32_t a0, a1, a2, a3;
            widen_e4m3(__byte_perm(v[2 * j], 0, 0x3120), a0, a1);
            widen_e4m3(__byte_perm(v[2 * j + 1], 0, 0x3120), a2, a3);
            WarpMma<Mma>::run(leaf.value[i + j], a0, a1, a2, a3, low, high);
          }
        }
      } else {
        const int token = 16 * step + lane_ % 8 + lane_ / 16 * 8;
#pragma unroll
        for (int i = 0; i < Shape::kDimTiles; ++i) {
          uint32_t a[4];
          load_transposed(a, tile + tile_offset<kRowBytes>(token, 2 * i + lane_ / 8 % 2));
          WarpMma<Mma>::run(leaf.value[i], a[0], a[1], a[2], a[3], low, high);
        }
      }
    }
  }

  // Stale values may be NaN, and zero times NaN is NaN.
  __device__ void clear_tail(int first) {
    uint8_t* tile = this->tile();
    constexpr int kChunks = kRowBytes / 16;
    for (int i = first * kChunks + lane_; i < kBlock * kChunks; i += 32) {
      *reinterpret_cast<uint4*>(tile + tile_offset<kRowBytes>(i / kChunks, i % kChunks)) = make_uint4(0, 0, 0, 0);
    }
    hopper::fence_async_proxy();  // the copy engine writes here next
    __syncwarp();
  }

  const AttentionParams& p_;
  const DecodeMemory<Shape>& memory_;
  const int warp_, lane_;
  TilePlace place_;
  uint32_t query_[kLoads * kSteps][2];
};

// The threads behind the consumers: thread t owns, of every leaf, accumulators value[t / 16] of lane (t % 16) / 2 * 4 +
// t % 2 (heads 0 to 3), and of that lane + 2 (heads 4 to 7).
template <typename Act, typename Kv, int kHeadDim>
class DecodeFolder {
 public:
  using Shape = DecodeShape<Act, Kv, kHeadDim>;

  __device__ DecodeFolder(const AttentionParams& p, const DecodeMemory<Shape>& memory)
      : p_(p), memory_(memory), thread_(static_cast<int>(threadIdx.x) - 32 * Shape::kConsumers) {}

  template <int kHalves>
  __device__ void run() {
    auto& fixed = memory_.fixed;
    const int total = p_.plan.header->decode_items * p_.kv_heads, level = p_.plan.header->decode_level;
    const int head = thread_ % 2 * 2;
    int consumer = 0;
    uint32_t leaf_parity = 0;
    TreeFold<kHalves> fold;
    for (ItemWalk walk; walk.item < total; walk.advance(Shape::kItemSlots)) {
      hopper::mbarrier_wait(&fixed.item_full[walk.slot], walk.parity);
      const DecodeItem item = fixed.items[walk.slot].item;
      __syncwarp();
      if (thread_ % 32 == 0) hopper::mbarrier_arrive(&fixed.item_empty[walk.slot]);
      Partial<kHalves> left;
      for (int block = item.begin; block < item.end; ++block) {
        hopper::mbarrier_wait(&fixed.leaf_full[consumer], leaf_parity);
        Partial<kHalves> part;
#pragma unroll
        for (int half = 0; half < kHalves; ++half) {
          part.value[half] = memory_.leaves[(consumer * kHalves + half) * Shape::kFolders + thread_];
          part.max[half] = *reinterpret_cast<const float2*>(&fixed.leaf_max[consumer][half * 4 + head]);
          part.sum[half] = *reinterpret_cast<const float2*>(&fixed.leaf_sum[consumer][half * 4 + head]);
        }
        __syncwarp();
        if (thread_ % 32 == 0) hopper::mbarrier_arrive(&fixed.leaf_empty[consumer]);
        if (++consumer == Shape::kConsumers) consumer = 0, leaf_parity ^= 1;
        // Pairs are merged in registers, larger subtrees wait in the fold.
        if (block % 2 == 0 && block + 1 < item.end) {
          left = part;
          continue;
        }
        if (block % 2 == 1 && block > item.begin) part.merge_left(left);
        fold.add(part, static_cast<uint32_t>(block / 2));
      }
      Partial<kHalves> result = fold.finish();
      const BlockRange all = visible_blocks(item.position, p_.window);
      const int kv_head = walk.item % p_.kv_heads, runs = all.runs(level);
      if (runs == 1) {
        write(result, item.row, kv_head);
      } else {
        const int run = (item.begin >> level) - (all.begin >> level);
        float* const parts =
            p_.partials + (static_cast<int64_t>(item.slot) * p_.kv_heads + kv_head) * part_size(kHalves);
        const int64_t stride = static_cast<int64_t>(p_.kv_heads) * part_size(kHalves);
        save(result, parts + run * stride);
        if (arrives_last(p_.arrivals + static_cast<int64_t>(item.slot) * p_.kv_heads + kv_head, runs)) {
          merge_runs(fold, parts, stride, all.begin >> level, runs);
          result = fold.finish();
          write(result, item.row, kv_head);
        }
      }
    }
  }

 private:
  // Floats of a partial result: the values as the threads hold them, then the heads' maxima and sums.
  static constexpr int part_size(int halves) { return halves * Shape::kFolders * 4 + 16; }

  template <int kHalves>
  __device__ void save(const Partial<kHalves>& part, float* to) const {
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
      reinterpret_cast<float4*>(to)[half * Shape::kFolders + thread_] = part.value[half];
      if (thread_ < 2) {
        float* heads = to + kHalves * Shape::kFolders * 4 + half * 4 + thread_ * 2;
        *reinterpret_cast<float2*>(heads) = part.max[half];
        *reinterpret_cast<float2*>(heads + 8) = part.sum[half];
      }
    }
  }

  // Whether all other runs of the row have been saved.
  __device__ bool arrives_last(int32_t* arrivals, int runs) const {
    hopper::named_sync(1, Shape::kFolders);
    if (thread_ == 0) {
      __threadfence();
      memory_.fixed.last_arrival = atomicAdd(arrivals, 1) == runs - 1;
      if (memory_.fixed.last_arrival) {
        *arrivals = 0;
        __threadfence();
      }
    }
    hopper::named_sync(1, Shape::kFolders);
    return memory_.fixed.last_arrival != 0;
  }

  template <int kHalves>
  __device__ void merge_runs(TreeFold<kHalves>& fold, const float* parts, int64_t stride, int first, int runs) const {
    constexpr int kAhead = 4 / kHalves;  // loads in flight
    for (int base = 0; base < runs; base += kAhead) {
      Partial<kHalves> loaded[kAhead];
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const float* from = parts + min(base + i, runs - 1) * stride;
#pragma unroll
        for (int half = 0; half < kHalves; ++half) {
          const float* heads = from + kHalves * Shape::kFolders * 4 + half * 4 + thread_ % 2 * 2;
          loaded[i].value[half] = __ldcg(reinterpret_cast<const float4*>(from) + half * Shape::kFolders + thread_);
          loaded[i].max[half] = __ldcg(reinterpret_cast<const float2*>(heads));
          loaded[i].sum[half] = __ldcg(reinterpret_cast<const float2*>(heads + 8));
        }
      }
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        if (base + i < runs) fold.add(loaded[i], static_cast<uint32_t>(first + base + i));
      }
    }
  }

  template <int kHalves>
  __device__ void write(const Partial<kHalves>& result, int row, int kv_head) const {
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
      const float4 v = result.value[half];
      const float values[4] = {v.x, v.y, v.z, v.w}, sums[2] = {result.sum[half].x, result.sum[half].y};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int head = half * 4 + thread_ % 2 * 2 + j % 2;
        if (head >= p_.group) continue;
        const int tile = thread_ / 16 * 16, inside = thread_ % 16 / 2;
        const int dim = tile + (Shape::kScaled ? inside * 2 + j / 2 : inside + j / 2 * 8);  // see weigh()
        const int64_t at = (static_cast<int64_t>(row) * p_.kv_heads + kv_head) * p_.group + head;
        static_cast<uint16_t*>(p_.out)[at * kHeadDim + dim] = Pack<Act>::one(__fdividef(values[j], sums[j % 2]));
      }
    }
  }

  const AttentionParams& p_;
  const DecodeMemory<Shape>& memory_;
  const int thread_;
};

template <typename Act, typename Kv, int kHeadDim>
__device__ void fire_attention_decode(const AttentionParams& p) {
  using Shape = DecodeShape<Act, Kv, kHeadDim>;
  extern __shared__ uint8_t raw_shared[];
  const DecodeMemory<Shape> memory(raw_shared + (1024 - hopper::shared_address(raw_shared) % 1024) % 1024,
                                   p.decode_tiles);
  auto& fixed = memory.fixed;
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0) {
    for (int i = 0; i < Shape::kConsumers * p.decode_tiles; ++i) {
      hopper::mbarrier_init(&fixed.full[i], 1);
      hopper::mbarrier_init(&fixed.empty[i], 1);
    }
    for (int i = 0; i < Shape::kConsumers; ++i) {
      hopper::mbarrier_init(&fixed.leaf_full[i], 1);
      hopper::mbarrier_init(&fixed.leaf_empty[i], Shape::kFolders / 32);
    }
    for (int i = 0; i < Shape::kItemSlots; ++i) {
      hopper::mbarrier_init(&fixed.item_full[i], 1);
      hopper::mbarrier_init(&fixed.item_empty[i], Shape::kConsumers + Shape::kFolders / 32);
    }
    hopper::mbarrier_init_fence();
    hopper::tma_prefetch_map(&p.k_map);
    hopper::tma_prefetch_map(&p.v_map);
  }
  __syncthreads();
  hopper::wait_for_previous_kernel();
  hopper::start_next_kernel();
  if (thread < 32 * Shape::kConsumers) {
    DecodeConsumer<Act, Kv, kHeadDim>(p, memory).run();
  } else if (thread < 32 * Shape::kConsumers + Shape::kFolders) {
    DecodeFolder<Act, Kv, kHeadDim> folder(p, memory);
    if (Shape::halves(p.group) == 1) {
      folder.template run<1>();
    } else {
      folder.template run<2>();
    }
  } else {
    const int feeder = (thread - 32 * Shape::kConsumers - Shape::kFolders) / 32;
    DecodeFeeder<Shape, kHeadDim, Kv>(p, memory, feeder).run();
  }
}

}  // namespace hearth::cuda
