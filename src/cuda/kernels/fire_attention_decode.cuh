// FireAttention for generated tokens: one query row, the keys and values of its blocks streamed through shared memory
// at the speed of HBM.
//
//   feeders (a warp a team)   item and query, then pages: K, V and their scales, over the ends of items
//   teams (4 warps each)      a page is a leaf of the row's tree (kernels/tree_fold.cuh):
//     S = K Q^T               WGMMA, the page's tokens on its rows: K goes from shared memory to the tensor cores
//     softmax                 a thread has two tokens of a head; maxima meet in shared memory
//     O^T = V^T P^T           mma.sync, each warp a quarter of the dimensions, V widened in registers
//
// A team takes whole items and knows nothing of the others: while one waits, the rest of the multiprocessor computes.
// The last team of a row to come by merges the partial results of its runs.
#pragma once

#include "cuda/hopper/cluster.cuh"
#include "cuda/hopper/pipeline.cuh"
#include "cuda/hopper/tma.cuh"
#include "cuda/hopper/wgmma.cuh"
#include "cuda/kernels/attention_types.cuh"
#include "cuda/kernels/tree_fold.cuh"
#include "cuda/kernels/vector.cuh"
#include "cuda/kernels/warp_mma.cuh"

namespace hearth::cuda {

template <typename Act, typename Kv, int kHeadDim>
struct DecodeShape {
  static constexpr bool kScaled = std::is_same_v<Kv, E4M3>;
  static constexpr int kTokens = static_cast<int>(kBlockSize);
  static constexpr int kRowBytes = kHeadDim * static_cast<int>(sizeof(Kv));
  static constexpr int kTileBytes = kRowBytes * kTokens;
  static constexpr int kScaleBytes = kScaled ? 4 * kTokens : 0;
  static constexpr int kColumns = kRowBytes < 128 ? 1 : kRowBytes / 128;  // of a tile, as the copy engine leaves it
  static constexpr int kTeams = kTileBytes > 8192 ? 2 : 4;
  static constexpr int kThreads = kTeams * (128 + 32);
  static constexpr int kQueryRows = 16, kQueryColumn = kQueryRows * 128;  // of the operand: rows of 128 bytes
  static constexpr int kWeightStride = kTokens + 8;                       // misses banks
  static constexpr int kMaxStages = 6;
  static_assert(kTileBytes % 1024 == 0 && (kHeadDim == 64 || kHeadDim == 128));

  struct Team {
    alignas(1024) uint8_t query[kColumns * kQueryColumn];  // then the result of the item, in 16 bit
    alignas(16) uint16_t weights[8 * kWeightStride];       // P^T: row 2 c + b is head 4 b + c
    float4 maxima[8], sums[8];                             // of the heads, by warp
    float factor[8];                                       // takes a head's products to base-2 logits
    DecodeItem item;
    int32_t part;  // which heads of the item; -1: no more
    alignas(16) uint16_t raw_query[8 * kHeadDim];
    uint64_t full[kMaxStages], empty[kMaxStages], item_full, item_empty;
    int32_t last_arrival;
  };
  static_assert(sizeof(Team::query) >= 8 * kHeadDim * 2);
  static constexpr int kLimit = 227 * 1024 - 1024;
  static constexpr int kPageBytes = 2 * (kTileBytes + kScaleBytes);
  static constexpr int kFitting = (kLimit / kTeams - static_cast<int>(sizeof(Team))) / kPageBytes;
  static constexpr int kStages = kFitting < kMaxStages ? kFitting : kMaxStages;
  static_assert(kStages >= 2);

  struct Shared {  // K and V of a page lie as they do in AttentionParams::pages_map
    Team team[kTeams];
    uint8_t pages[kTeams][kStages][2][kTileBytes];
    alignas(128) float scales[kTeams][kStages][2][kScaled ? kTokens : 16];
  };
  static constexpr int kSharedBytes = static_cast<int>(sizeof(Shared)) + 1024;
  static_assert(kSharedBytes <= 227 * 1024);
};

// Whether the feeders alone wait for the kernel before, once their rings are full of what it did not write.
__device__ __forceinline__ bool starts_ahead(const AttentionParams& p) { return p.planned_before && !p.beside_prefill; }

// Keeps its team's ring of pages full; one warp.
template <typename Shape, int kHeadDim, typename Kv>
__device__ void decode_feed(const AttentionParams& p, typename Shape::Shared& shared, int team_index) {
  auto& team = shared.team[team_index];
  const int lane = static_cast<int>(threadIdx.x % 32);
  // The first items spread over the multiprocessors, the others go to whoever comes. Beside the prompt kernel all do,
  // for some CTAs come late.
  const int teams = static_cast<int>(gridDim.x) * Shape::kTeams, dealt = p.beside_prefill ? 0 : teams;
  int index = team_index * static_cast<int>(gridDim.x) + static_cast<int>(blockIdx.x);
  // With the header, not after it; may be past the list's end.
  const int parts = p.head_parts.all;
  // Another part's team reads the same pages soon.
  const uint64_t policy = p.head_parts.each == 1 ? hopper::kEvictFirst : hopper::kEvictNormal;
  DecodeItem item = p.plan.decode[min(index / parts, p.plan.decode_capacity - 1)];
  const int total = p.plan.header->decode_items * parts;
  // By one lane; also ahead of the kernel before, for the last to count here was a whole layer ago.
  const auto take = [&] {
    const int next = atomicAdd(&p.plan.header->decode_taken, 1);
    // Every item is followed by a take, and every team that was dealt none begins with one: this is the last.
    if (next == total + teams - dealt - 1) p.plan.header->decode_taken = 0;
    return dealt + next;
  };
  if (p.beside_prefill) {
    index = __shfl_sync(0xFFFFFFFFu, lane == 0 ? take() : 0, 0);
    if (index < total) item = p.plan.decode[index / parts];
  }
  hopper::Stage<Shape::kStages> stage;
  uint32_t item_parity = 1;
  bool ahead = starts_ahead(p);  // of the kernel before
  const auto see_kernel_before = [&] {
    if (!ahead) return;
    hopper::wait_for_previous_kernel();
    hopper::start_next_kernel();
    ahead = false;
  };
  for (; index < total; item_parity ^= 1) {
    const int next = lane == 0 ? take() : 0;
    const int part = index % parts;
    const PartHeads heads(p, part);
    const int32_t* table = p.block_tables + item.sequence * p.max_blocks;
    int base = item.begin;  // of the 32 ids that the lanes hold
    int id = base + lane < item.end ? table[base + lane] : 0;
    const auto load_page = [&](int block) {
      if (block - base == 32) {
        base = block;
        id = base + lane < item.end ? table[base + lane] : 0;
      }
      const int64_t physical = __shfl_sync(0xFFFFFFFFu, id, block - base);
      const int64_t row = (physical * p.kv_heads + heads.kv_head) * kBlockSize;
      hopper::mbarrier_wait(&team.empty[stage.index], stage.parity ^ 1);
      if (lane == 0) {
        uint64_t* full = &team.full[stage.index];
        hopper::mbarrier_arrive_expect(full, Shape::kPageBytes);
        hopper::tma_load_4d(shared.pages[team_index][stage.index], &p.pages_map, full, 0, static_cast<int>(row), 0, 0,
                            policy);
        if constexpr (Shape::kScaled) {
          hopper::tma_load_4d(shared.scales[team_index][stage.index], &p.scales_map, full, 0,
                              static_cast<int>(row / kBlockSize), 0, 0, policy);
        }
      }
      __syncwarp();
      stage.advance();
    };
    int block = item.begin;
    if (ahead) {
      const int old = min(min(item.appended, item.end), item.begin + Shape::kStages);
      for (; block < old; ++block) load_page(block);
      see_kernel_before();
    }
    hopper::mbarrier_wait(&team.item_empty, item_parity);
    if (lane == 0) {
      team.part = part;
      const auto bytes = static_cast<uint32_t>(heads.count * kHeadDim * 2);
      hopper::mbarrier_arrive_expect(&team.item_full, bytes + sizeof(DecodeItem));
      hopper::bulk_load(&team.item, &p.plan.decode[index / parts], sizeof(DecodeItem), &team.item_full);
      hopper::bulk_load(team.raw_query,
                        static_cast<const uint16_t*>(p.q) + item.row * p.q_stride + heads.first * kHeadDim, bytes,
                        &team.item_full);
    }
    for (; block < item.end; ++block) load_page(block);
    index = __shfl_sync(0xFFFFFFFFu, next, 0);
    if (index < total) item = p.plan.decode[index / parts];
  }
  see_kernel_before();
  hopper::mbarrier_wait(&team.item_empty, item_parity);
  if (lane == 0) {
    team.part = -1;
    hopper::mbarrier_arrive(&team.item_full);
  }
}

// Four warps and all they do with an item. Lane l of warp w has, of a page, tokens 16 w + l / 4 and + 8 for heads
// l % 4 and, where a KV head has more than four (kHalves = 2), 4 + l % 4; of the result, two rows of each of its warp's
// tiles of 16 dimensions for the same heads.
template <typename Act, typename Kv, int kHeadDim, int kHalves>
class DecodeTeam {
 public:
  using Shape = DecodeShape<Act, Kv, kHeadDim>;
  using Shared = typename Shape::Shared;
  using Mma = MmaType<Act, Kv>;
  static constexpr int kTiles = kHeadDim / 64;  // of 16 dimensions, of a warp
  using Part = Partial<kHalves, 2 * kTiles>;
  static constexpr int kPartFloats = static_cast<int>(sizeof(Part)) / 4;

  __device__ DecodeTeam(const AttentionParams& p, Shared& shared, int index)
      : p_(p),
        shared_(shared),
        team_(shared.team[index]),
        index_(index),
        thread_(static_cast<int>(threadIdx.x % 128)),
        warp_(thread_ / 32),
        lane_(thread_ % 32) {}

  __device__ void run() {
    const int level = p_.plan.header->decode_level;
    TreeFold<Part> fold;
    for (uint32_t item_parity = 0;; item_parity ^= 1) {
      hopper::mbarrier_wait(&team_.item_full, item_parity);
      const int heads = team_.part;
      if (heads < 0) return;
      const DecodeItem item = team_.item;
      load_query(PartHeads(p_, heads).count);
      Part left;
      for (int block = item.begin; block < item.end; ++block) {
        Part part;
        make_leaf(part, item.first_token - block * Shape::kTokens, item.position - block * Shape::kTokens);
        // Pairs are merged in registers, larger subtrees wait in the fold.
        if (block % 2 == 0 && block + 1 < item.end) {
          left = part;
          continue;
        }
        if (block % 2 == 1 && block > item.begin) part.merge_left(left);
        fold.add(part, static_cast<uint32_t>(block / 2));
      }
      finish(fold, item, heads, level);
    }
  }

 private:
  __device__ void sync() const { hopper::named_sync(1 + index_, 128); }
  __device__ int slot_head(int half) const { return 4 * half + lane_ % 4; }

  // The item's query heads become the operand: row 2 c of eight rows is head c, in the type of K. e4m3 keys meet a
  // query in two e4m3 parts, rows 2 c and 2 c + 1: of a power of two times the query, and of sixteen times what that
  // left. Together they have all bits of a bfloat16, and eight of a float16. Other rows stay as they are: their
  // products go nowhere.
  __device__ void load_query(int heads) {
    constexpr int kEach = kHeadDim / 32;  // elements a lane
    sync();                               // the last item's result has left its place
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
      const int head = half * 4 + warp_, row = half * 8 + warp_ * 2;
      if (head >= heads) continue;
      const uint16_t* from = team_.raw_query + head * kHeadDim + lane_ * kEach;
      if constexpr (Shape::kScaled) {
        float x[kEach], top = 0.0f;
#pragma unroll
        for (int i = 0; i < kEach; ++i) {
          x[i] = Pack<Act>::widen(from[i]);
          top = fmaxf(top, fabsf(x[i]));
        }
        top = __uint_as_float(__reduce_max_sync(0xFFFFFFFFu, __float_as_uint(top)));
        const uint32_t exponent = min(max(__float_as_uint(top) >> 23, 16u), 250u);
        const float enlarge = __uint_as_float((261 - exponent) << 23);  // the largest to between 128 and 256
        if (lane_ == 0) team_.factor[head] = p_.scale * __uint_as_float((exponent - 7) << 23);
        uint32_t coarse = 0, fine = 0;
#pragma unroll
        for (int i = 0; i < kEach; i += 2) {
          const float a = x[i] * enlarge, b = x[i + 1] * enlarge;
          const uint32_t pair = narrow_e4m3(a, b);
          uint32_t back, unused;
          widen_e4m3(pair, back, unused);
          const float2 kept = __half22float2(*reinterpret_cast<const __half2*>(&back));
          coarse |= pair << (8 * i);
          fine |= uint32_t{narrow_e4m3((a - kept.x) * 16.0f, (b - kept.y) * 16.0f)} << (8 * i);
        }
        store_query(row, lane_ * kEach, coarse);
        store_query(row + 1, lane_ * kEach, fine);
      } else {
        if (lane_ == 0) team_.factor[head] = p_.scale;
#pragma unroll
        for (int i = 0; i < kEach; i += 2) {
          store_query(row, (lane_ * kEach + i) * 2, *reinterpret_cast<const uint32_t*>(from + i));
        }
      }
    }
    hopper::fence_async_proxy();
    sync();
    hopper::mbarrier_arrive(&team_.item_empty);
#pragma unroll
    for (int half = 0; half < kHalves; ++half) factor_[half] = team_.factor[slot_head(half)];
  }

  // At byte `at` of an operand's row; a lane's four bytes, or two where its elements are no more.
  __device__ void store_query(int row, int at, uint32_t bits) {
    uint8_t* to =
        team_.query + at / 128 * Shape::kQueryColumn + row * 128 + (((at / 16 & 7) ^ (row & 7)) << 4) + at % 16;
    if constexpr (Shape::kScaled && kHeadDim == 64) {
      *reinterpret_cast<uint16_t*>(to) = static_cast<uint16_t>(bits);
    } else {
      *reinterpret_cast<uint32_t*>(to) = bits;
    }
  }

  // Tokens first .. last of the next page (which may lie before 0 or behind 63) become a leaf.
  __device__ void make_leaf(Part& leaf, int first, int last) {
    const bool cut = first > 0 || last < Shape::kTokens - 1;
    hopper::mbarrier_wait(&team_.full[stage_.index], stage_.parity);
    float s[4 * kHalves];
    score(s);

    // While the tensor cores work: the other operand and the scales.
    uint32_t v[4][kTiles][4];
    load_values(v);
    if (cut) clear_hidden(v, first, last);
    const int token = 16 * warp_ + lane_ / 4;
    float key_scale[2] = {1.0f, 1.0f}, value_log[2] = {};
    if constexpr (Shape::kScaled) {
      const auto& scales = shared_.scales[index_][stage_.index];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        key_scale[r] = scales[p_.key_scales_at][token + 8 * r];
        value_log[r] = log2_fast(fmaxf(scales[1 - p_.key_scales_at][token + 8 * r], 0x1p-100f));
      }
    }
    hopper::wgmma_wait<0>();
    hopper::wgmma_pin(s);
    __syncwarp();
    if (lane_ == 0) hopper::mbarrier_arrive(&team_.empty[stage_.index]);
    stage_.advance();

    // The reference of a leaf is the largest logit plus logarithm of V's scale: probability times scale is at most 1.
    float logit[kHalves][2];
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
      float top = -INFINITY;
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        float x = s[4 * half + 2 * r];
        if constexpr (Shape::kScaled) x = __fmaf_rn(s[4 * half + 2 * r + 1], 0.0625f, x);
        x *= key_scale[r] * factor_[half];
        if (cut && (token + 8 * r < first || token + 8 * r > last)) x = -INFINITY;
        logit[half][r] = x;
        top = fmaxf(top, hidden_or(x, value_log[r]));
      }
#pragma unroll
      for (int lanes = 4; lanes <= 16; lanes *= 2) top = fmaxf(top, __shfl_xor_sync(0xFFFFFFFFu, top, lanes));
      if (lane_ < 4) reinterpret_cast<float*>(&team_.maxima[slot_head(half)])[warp_] = top;
    }
    sync();
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
      const float4 tops = team_.maxima[slot_head(half)];
      const float top = fmaxf(fmaxf(tops.x, tops.y), fmaxf(tops.z, tops.w));
      leaf.max[half] = top;
      uint16_t* to = team_.weights + (lane_ % 4 * 2 + half) * Shape::kWeightStride + token;
      float p[2];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        p[r] = exp2_fast(logit[half][r] - top);
        to[8 * r] = Pack<Mma>::one(Shape::kScaled ? exp2_fast(hidden_or(logit[half][r], value_log[r]) - top) : p[r]);
      }
      leaf.sum[half] = p[0] + p[1];  // of this thread's tokens, until the end
    }
    sync();
    weigh(leaf, v);
  }

  // A hidden token's scale may be NaN.
  __device__ static float hidden_or(float logit, float value_log) {
    if constexpr (!Shape::kScaled) return logit;
    return logit == -INFINITY ? logit : logit + value_log;
  }

  __device__ void score(float (&s)[4 * kHalves]) const {
    const uint64_t query = hopper::wgmma_uniform(hopper::wgmma_descriptor(team_.query));
    const void* tile = shared_.pages[index_][stage_.index][p_.keys_at];
    const uint64_t keys =
        hopper::wgmma_uniform(kRowBytes < 128 ? hopper::wgmma_narrow_descriptor(tile) : hopper::wgmma_descriptor(tile));
    hopper::wgmma_fence();
#pragma unroll
    for (int step = 0; step < kRowBytes / 32; ++step) {
      const int column = step / 4, inside = step % 4 * 32;
      hopper::Wgmma<Kv, 8 * kHalves>::run(s, hopper::wgmma_moved(keys, column * Shape::kTokens * 128 + inside),
                                          hopper::wgmma_moved(query, column * Shape::kQueryColumn + inside), step > 0);
    }
    hopper::wgmma_commit();
  }

  // Operand V^T: v[i][j] is the fragment of tokens 16 i and tile j of this warp's. In e4m3 a 16-bit unit of the
  // transposing load is two neighbouring dimensions, so a tile's first eight rows are its even dimensions.
  __device__ void load_values(uint32_t (&v)[4][kTiles][4]) const {
    const uint32_t tile = hopper::shared_address(shared_.pages[index_][stage_.index][1 - p_.keys_at]);
    if constexpr (Shape::kScaled) {
#pragma unroll
      for (int i = 0; i < 4; i += 2 / kTiles) {  // two fragments a load: of two tiles, or of one for twice the tokens
        const int token = kTiles == 2 ? 16 * i + lane_ % 16 : 16 * i + lane_;
        const int chunk = kTiles == 2 ? 2 * warp_ + lane_ / 16 : warp_;
        uint32_t raw[4];
        load_transposed(raw, tile + tile_offset<kRowBytes>(token, chunk));
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          uint32_t(&to)[4] = kTiles == 2 ? v[i][k % kTiles] : v[(i + k) % 4][0];
          widen_e4m3(__byte_perm(raw[2 * k], 0, 0x3120), to[0], to[1]);
          widen_e4m3(__byte_perm(raw[2 * k + 1], 0, 0x3120), to[2], to[3]);
        }
      }
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < kTiles; ++j) {
          const int token = 16 * i + lane_ % 8 + lane_ / 16 * 8;
          load_transposed(v[i][j], tile + tile_offset<kRowBytes>(token, 2 * (warp_ * kTiles + j) + lane_ / 8 % 2));
        }
      }
    }
  }

  // Stale values may be NaN, and zero times NaN is NaN.
  __device__ void clear_hidden(uint32_t (&v)[4][kTiles][4], int first, int last) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        const int token = 16 * i + 8 * k + lane_ % 4 * 2;
        const uint32_t low = token < first || token > last ? 0 : 0xFFFFu;
        const uint32_t high = token + 1 < first || token + 1 > last ? 0 : 0xFFFF0000u;
#pragma unroll
        for (int j = 0; j < kTiles; ++j) {
          v[i][j][2 * k] &= low | high;
          v[i][j][2 * k + 1] &= low | high;
        }
      }
    }
  }

  __device__ void weigh(Part& leaf, const uint32_t (&v)[4][kTiles][4]) const {
    const uint32_t weights = hopper::shared_address(team_.weights) + lane_ % 8 * Shape::kWeightStride * 2;
    float o[kTiles][4] = {};
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
      uint32_t w[4];
      load_matrices(w, weights + (i * 2 + lane_ / 8) * 16);
#pragma unroll
      for (int k = 0; k < 2; ++k) {
#pragma unroll
        for (int j = 0; j < kTiles; ++j) {
          const uint32_t(&a)[4] = v[i + k][j];
          WarpMma<Mma>::run(o[j], a[0], a[1], a[2], a[3], w[2 * k], w[2 * k + 1]);
        }
      }
    }
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
#pragma unroll
      for (int j = 0; j < kTiles; ++j) {
        leaf.value[half][2 * j] = o[j][half];
        leaf.value[half][2 * j + 1] = o[j][2 + half];
      }
    }
  }

  // The item's subtree is complete.
  __device__ void finish(TreeFold<Part>& fold, const DecodeItem& item, int heads, int level) {
    const BlockRange all = visible_blocks(item.position, p_.window);
    const int runs = all.runs(level);
    Part result = fold.finish();
    if (runs > 1) {
      const int64_t place = static_cast<int64_t>(item.slot) * p_.head_parts.all + heads;
      const int64_t stride = static_cast<int64_t>(p_.head_parts.all) * kPartFloats * 128;
      float* const parts = p_.partials + place * kPartFloats * 128 + thread_;
      float* const mine = parts + ((item.begin >> level) - (all.begin >> level)) * stride;
      const auto* floats = reinterpret_cast<const float*>(&result);
#pragma unroll
      for (int i = 0; i < kPartFloats; ++i) mine[i * 128] = floats[i];
      if (!arrives_last(p_.arrivals + place, runs)) return;
      merge_runs(fold, parts, stride, all.begin >> level, runs);
      result = fold.finish();
    }
    write(result, item.row, PartHeads(p_, heads));
  }

  // Whether all other runs of the row have been saved.
  __device__ bool arrives_last(int32_t* arrivals, int runs) {
    sync();
    if (thread_ == 0) {
      __threadfence();
      team_.last_arrival = atomicAdd(arrivals, 1) == runs - 1;
      if (team_.last_arrival) {
        *arrivals = 0;
        __threadfence();
      }
    }
    sync();
    return team_.last_arrival != 0;
  }

  __device__ static void merge_runs(TreeFold<Part>& fold, const float* parts, int64_t stride, int first, int runs) {
    constexpr int kAhead = 4 / kHalves;  // loads in flight
    for (int base = 0; base < runs; base += kAhead) {
      Part loaded[kAhead];
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const float* from = parts + min(base + i, runs - 1) * stride;
        auto* floats = reinterpret_cast<float*>(&loaded[i]);
#pragma unroll
        for (int j = 0; j < kPartFloats; ++j) floats[j] = __ldcg(from + j * 128);
      }
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        if (base + i < runs) fold.add(loaded[i], static_cast<uint32_t>(first + base + i));
      }
    }
  }

  // By way of shared memory, in 16 bit; from there 8 elements a thread.
  __device__ void write(const Part& result, int row, const PartHeads& heads) {
    constexpr int kVectors = kHeadDim / 8;
    auto* const staged = reinterpret_cast<uint16_t*>(team_.query);
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
      float sum = result.sum[half];
#pragma unroll
      for (int lanes = 4; lanes <= 16; lanes *= 2) sum += __shfl_xor_sync(0xFFFFFFFFu, sum, lanes);
      if (lane_ < 4) reinterpret_cast<float*>(&team_.sums[slot_head(half)])[warp_] = sum;
    }
    sync();
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
      const float4 sums = team_.sums[slot_head(half)];
      float sum = (sums.x + sums.y) + (sums.z + sums.w);
      if (p_.sinks) {
        sum += sink_weight(p_, heads.first + min(slot_head(half), heads.count - 1), result.max[half]);
      }
#pragma unroll
      for (int i = 0; i < 2 * kTiles; ++i) {
        const int tile = (warp_ * kTiles + i / 2) * 16;
        const int dim = tile + (Shape::kScaled ? lane_ / 4 * 2 + i % 2 : lane_ / 4 + i % 2 * 8);  // see load_values()
        const float value = __fdividef(result.value[half][i], sum) * p_.out_factor;
        staged[slot_head(half) * kHeadDim + dim] = p_.out_e4m3 ? Pack<F16>::one(value) : Pack<Act>::one(value);
      }
    }
    sync();
    const int head = thread_ / kVectors;
    if (head >= heads.count) return;
    const uint4 bits = reinterpret_cast<const uint4*>(staged)[thread_];
    const int64_t to = static_cast<int64_t>(row) * p_.kv_heads * p_.group + heads.first + head;  // a head's row of out
    const int64_t vector = to * kVectors + thread_ % kVectors;
    if (p_.out_e4m3) {
      static_cast<uint2*>(p_.out)[vector] =
          make_uint2(narrow_row_e4m3(bits.x) | uint32_t{narrow_row_e4m3(bits.y)} << 16,
                     narrow_row_e4m3(bits.z) | uint32_t{narrow_row_e4m3(bits.w)} << 16);
    } else {
      static_cast<uint4*>(p_.out)[vector] = bits;
    }
  }

  static constexpr int kRowBytes = Shape::kRowBytes;
  const AttentionParams& p_;
  Shared& shared_;
  typename Shape::Team& team_;
  const int index_, thread_, warp_, lane_;
  hopper::Stage<Shape::kStages> stage_;
  float factor_[kHalves];
};

template <typename Act, typename Kv, int kHeadDim>
__device__ void fire_attention_decode(const AttentionParams& p) {
  using Shape = DecodeShape<Act, Kv, kHeadDim>;
  using Shared = typename Shape::Shared;
  extern __shared__ uint8_t raw_shared[];
  Shared& shared = *reinterpret_cast<Shared*>((reinterpret_cast<uintptr_t>(raw_shared) + 1023) & ~uintptr_t{1023});
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0) {
    for (auto& team : shared.team) {
      for (int i = 0; i < Shape::kStages; ++i) {
        hopper::mbarrier_init(&team.full[i], 1);
        hopper::mbarrier_init(&team.empty[i], 4);
      }
      hopper::mbarrier_init(&team.item_full, 1);
      hopper::mbarrier_init(&team.item_empty, 128);
    }
    hopper::mbarrier_init_fence();
    hopper::tma_prefetch_map(&p.pages_map);
    if constexpr (Shape::kScaled) hopper::tma_prefetch_map(&p.scales_map);
  }
  __syncthreads();
  // Behind the prompt kernel, which has seen to what came before it, there is nothing to wait for but its end.
  if (!starts_ahead(p)) {
    if (!p.beside_prefill) hopper::wait_for_previous_kernel();
    hopper::start_next_kernel();
  }
  if (thread >= 128 * Shape::kTeams) {
    decode_feed<Shape, kHeadDim, Kv>(p, shared, thread / 32 - 4 * Shape::kTeams);
  } else if (p.head_parts.heads <= 4) {
    DecodeTeam<Act, Kv, kHeadDim, 1>(p, shared, thread / 128).run();
  } else {
    DecodeTeam<Act, Kv, kHeadDim, 2>(p, shared, thread / 128).run();
  }
  if (p.beside_prefill) hopper::wait_for_previous_kernel();
}

}  // namespace hearth::cuda
