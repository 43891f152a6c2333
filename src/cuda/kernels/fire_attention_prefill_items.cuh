// What a CTA of FireAttention's prompt kernel works on: its items, the tiles of keys they see, and the shared memory in
// which producers and consumers meet.
#pragma once

#include "cuda/hopper/cluster.cuh"
#include "cuda/hopper/pipeline.cuh"
#include "cuda/hopper/tma.cuh"
#include "cuda/hopper/wgmma.cuh"
#include "cuda/kernels/attention_types.cuh"
#include "cuda/kernels/tree_fold.cuh"

namespace hearth::cuda {

// The items of one CTA: rounds over the list, longest items first, every other round backwards, which evens out their
// lengths.
struct PrefillRounds {
  int ctas, total, cta;
  __device__ explicit PrefillRounds(const AttentionParams& p)
      : ctas(p.plan.header->prefill_ctas), total(p.plan.header->prefill_items * p.kv_heads) {
    // Those that take items lie evenly among the others: so do the multiprocessors left to generated tokens.
    const int grid = static_cast<int>(gridDim.x), before = static_cast<int>(blockIdx.x) * ctas / grid;
    cta = (static_cast<int>(blockIdx.x) + 1) * ctas / grid > before ? before : ctas;
  }
  __device__ int place(int round) const { return round % 2 == 0 ? cta : ctas - 1 - cta; }
  __device__ int index(int round) const { return round * ctas + place(round); }
  __device__ int count() const {
    if (cta >= ctas) return 0;
    const int rounds = total / ctas;
    return rounds + (place(rounds) < total % ctas);
  }
};

// An item with what follows from it.
struct PrefillWork {
  PrefillItem item;
  int32_t kv_head;
  int32_t context;  // of its sequence
  PrefillWork() = default;
  __device__ PrefillWork(const AttentionParams& p, int index)
      : item(p.plan.prefill[index / p.kv_heads]), kv_head(index % p.kv_heads), context(p.context_lens[item.sequence]) {}
  __device__ int end() const { return item.position + item.rows; }  // tokens from here on are of no use to the item
  __device__ int first_tile(int window) const { return first_visible(item.position, window) / kTileTokens; }
  __device__ int last_tile() const { return (end() - 1) / kTileTokens; }
};

constexpr int kPrefillWorks = 64;  // that a CTA reads before it begins, so that nobody waits for one later

template <int kHeadDim>
struct PrefillShape {
  static constexpr int kUnits = kPrefillUnits;  // consumer warpgroups, behind one that loads
  static constexpr int kThreads = 128 * (kUnits + 1);
  static constexpr int kProducerRegisters = 24, kConsumerRegisters = 240;
  static constexpr int kBlockTokens = static_cast<int>(kBlockSize);
  static constexpr int kColumns = kHeadDim / 64;  // of 128 bytes, of a row
  static constexpr int kColumnBytes = kTileTokens * 128, kTileBytes = kColumns * kColumnBytes;
  static constexpr int kStages = 2;

  struct Shared {
    alignas(1024) uint8_t query[kUnits][kColumns][64 * 128];
    uint8_t keys[kStages][kTileBytes];
    uint8_t values[kStages][kTileBytes];
    PrefillWork works[kPrefillWorks];
    int32_t items;  // of this CTA
    hopper::Ring<kStages> key_ring;
    hopper::Ring<kStages> value_ring;
    uint64_t query_full[kUnits];
  };
  static constexpr int kSharedBytes = static_cast<int>(sizeof(Shared)) + 1024;
  static_assert(kSharedBytes <= 227 * 1024);
};

// The CTA's item `n`, from shared memory but in the longest of steps.
template <typename Shared>
__device__ __forceinline__ PrefillWork prefill_work(const AttentionParams& p, const Shared& shared, int n) {
  if (n < kPrefillWorks) return shared.works[n];
  return PrefillWork(p, PrefillRounds(p).index(n));
}

// A walk over the tiles of all items of a CTA, for a producer; by whole warps.
template <typename Shared>
class PrefillWalk {
 public:
  __device__ PrefillWalk(const AttentionParams& p, const Shared& shared) : p_(p), shared_(shared) {
    if (live()) begin();
  }
  __device__ bool live() const { return item_ < shared_.items; }
  __device__ int kv_head() const { return kv_head_; }
  // Of half a tile: how many of its tokens are of use to the item; and its physical block, -1 if none is.
  __device__ int live_tokens(int half) const { return end_ - (2 * tile_ + half) * static_cast<int>(kBlockSize); }
  __device__ int block(int half) const {
    const int id = __shfl_sync(0xFFFFFFFFu, blocks_, (2 * tile_ + half) % 32);
    return live_tokens(half) > 0 ? id : -1;
  }
  __device__ void advance() {
    if (++tile_ * kTileTokens >= end_) {
      ++item_;
      if (live()) begin();
    } else if (tile_ % 16 == 0) {
      read_blocks(prefill_work(p_, shared_, item_).item.sequence);
    }
  }

 private:
  __device__ void begin() {
    const PrefillWork work = prefill_work(p_, shared_, item_);
    kv_head_ = work.kv_head;
    tile_ = work.first_tile(p_.window);
    end_ = work.end();
    read_blocks(work.item.sequence);
  }
  // A lane has one of the 32 aligned blocks around the tile. Past the L1 cache: the plan may have written the table.
  __device__ void read_blocks(int sequence) {
    const int mine = (2 * tile_ & ~31) + static_cast<int>(threadIdx.x % 32);
    blocks_ = mine < p_.max_blocks ? __ldcg(p_.block_tables + sequence * p_.max_blocks + mine) : -1;
  }
  const AttentionParams& p_;
  const Shared& shared_;
  int item_ = 0, kv_head_, tile_, end_, blocks_;
};

}  // namespace hearth::cuda
