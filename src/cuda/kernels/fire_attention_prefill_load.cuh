// The producers of FireAttention's prompt kernel: tiles of keys and values from the paged cache into the rings, by
// tensor copies; e4m3 values by way of registers, widened to float16.
#pragma once

#include "cuda/kernels/fire_attention_prefill_items.cuh"

namespace hearth::cuda {

// A row of the cache, K or V or scales, where a block of a head begins. A block of no use reads as zeros.
__device__ inline int block_row(const AttentionParams& p, int block, int kv_head) {
  return block < 0 ? 0x7FFFFF00 : (block * p.kv_heads + kv_head) * static_cast<int>(kBlockSize);
}

// Starts the copies of a tile's keys and their scales; one warp.
template <typename Shape>
__device__ void copy_keys(const AttentionParams& p, typename Shape::Shared& shared, const int (&blocks)[2], int kv_head,
                          hopper::Stage<Shape::kKeyStages>& stage) {
  hopper::mbarrier_wait(&shared.key_ring.empty[stage.index], stage.parity ^ 1);
  if (threadIdx.x % 32 == 0) {
    uint64_t* full = &shared.key_ring.full[stage.index];
    constexpr int kScaleBytes = Shape::kScaled ? Shape::kBlockTokens * 4 : 0;
    hopper::mbarrier_arrive_expect(full, Shape::kKeyBytes + ((blocks[0] >= 0) + (blocks[1] >= 0)) * kScaleBytes);
#pragma unroll
    for (int block = 0; block < 2; ++block) {
      const int row = block_row(p, blocks[block], kv_head);
#pragma unroll
      for (int i = 0; i < Shape::kKeyColumns; ++i) {
        hopper::tma_load_2d(
            shared.keys[stage.index] + i * Shape::kKeyColumnBytes + block * Shape::kBlockTokens * Shape::kKeyColumnRow,
            &p.k_map, full, i * 64, row);
      }
      if (Shape::kScaled && blocks[block] >= 0) {
        hopper::bulk_load(shared.key_scales[stage.index] + block * Shape::kBlockTokens, p.k_scales + row, kScaleBytes,
                          full);
      }
    }
  }
  __syncwarp();
  stage.advance();
}

// 16-bit KV: one warp, tiles straight from the cache.
template <typename Shape>
__device__ void prefill_produce(const AttentionParams& p, typename Shape::Shared& shared) {
  hopper::Stage<Shape::kKeyStages> key_stage;
  hopper::Stage<Shape::kValueStages> value_stage;
  for (PrefillWalk walk(p, shared); walk.live(); walk.advance()) {
    const int blocks[2] = {walk.block(0), walk.block(1)};
    copy_keys<Shape>(p, shared, blocks, walk.kv_head(), key_stage);
    hopper::mbarrier_wait(&shared.value_ring.empty[value_stage.index], value_stage.parity ^ 1);
    if (threadIdx.x % 32 == 0) {
      uint64_t* full = &shared.value_ring.full[value_stage.index];
      hopper::mbarrier_arrive_expect(full, Shape::kValueBytes);
#pragma unroll
      for (int block = 0; block < 2; ++block) {
#pragma unroll
        for (int i = 0; i < Shape::kColumns; ++i) {
          hopper::tma_load_2d(
              shared.values[value_stage.index] + i * Shape::kValueColumnBytes + block * Shape::kBlockTokens * 128,
              &p.v_map, full, i * 64, block_row(p, blocks[block], walk.kv_head()));
        }
      }
    }
    __syncwarp();
    value_stage.advance();
  }
}

// e4m3 KV: keys as they are; values by way of registers, a tile ahead, into the ring in float16, which keeps more of
// e4m3 times a scale than bfloat16 would. Tokens of no use to the item become zeros.
template <typename Shape, int kHeadDim>
class PrefillWidener {
 public:
  __device__ PrefillWidener(const AttentionParams& p, typename Shape::Shared& shared)
      : p_(p), shared_(shared), walk_(p, shared) {}

  __device__ void run() {
    if (!walk_.live()) return;
    Ahead ahead[2];
    begin_tile();
    load(ahead[0], 0);
    load(ahead[1], 1);
    for (bool more = true; more;) {
      walk_.advance();
      more = walk_.live();
      if (more) begin_tile();
      hopper::mbarrier_wait(&shared_.value_ring.empty[stage_.index], stage_.parity ^ 1);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        store(ahead[half], half);
        if (more) load(ahead[half], half);
      }
      hopper::fence_async_proxy();
      __syncwarp();
      if (threadIdx.x % 32 == 0) hopper::mbarrier_arrive(&shared_.value_ring.full[stage_.index]);
      stage_.advance();
    }
  }

 private:
  static constexpr int kChunks = kHeadDim / 16;  // of a token, 16 elements each
  static constexpr int kApart = 128 * Shape::kProducers / kChunks, kEach = Shape::kBlockTokens / kApart,
                       kWarpTokens = 32 / kChunks;
  static_assert(kWarpTokens * kEach <= 32);  // tokens of a warp, in a block

  // A thread's part of a block: chunk() of its tokens; and the scale of one of its warp's.
  struct Ahead {
    uint4 data[kEach];
    float scale;
  };

  // Eight neighbouring lanes store to all banks: four chunks of two tokens.
  __device__ static int warp() { return static_cast<int>(threadIdx.x / 32); }
  __device__ static int lane() { return static_cast<int>(threadIdx.x % 32); }
  __device__ static int chunk() { return lane() % 4 + (kChunks == 8 ? lane() / 8 % 2 * 4 : 0); }
  __device__ static int warp_token() { return kChunks == 8 ? lane() / 4 % 2 + lane() / 16 * 2 : lane() / 4; }
  __device__ static int token(int i) { return warp() * kWarpTokens + warp_token() + i * kApart; }

  __device__ void begin_tile() {
    blocks_[0] = walk_.block(0);
    blocks_[1] = walk_.block(1);
    if (warp() == 0) copy_keys<Shape>(p_, shared_, blocks_, walk_.kv_head(), key_stage_);
  }

  __device__ void load(Ahead& ahead, int half) const {
    const int row = block_row(p_, blocks_[half], walk_.kv_head()), live = walk_.live_tokens(half);
    const auto* values = static_cast<const uint4*>(p_.v) + static_cast<int64_t>(row) * kChunks + chunk();
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      ahead.data[i] = token(i) < live ? __ldg(values + token(i) * kChunks) : make_uint4(0, 0, 0, 0);
    }
    const int scaled = warp() * kWarpTokens + lane() % kWarpTokens + lane() / kWarpTokens * kApart;
    ahead.scale = lane() < kWarpTokens * kEach && scaled < live ? __ldg(p_.v_scales + row + scaled) : 0.0f;
  }

  __device__ void store(const Ahead& ahead, int half) const {
    // The scale in two factors, so that float16 holds each of them whatever its size.
    const uint32_t bits = __float_as_uint(ahead.scale);
    const uint32_t factors =
        Pack<F16>::two(__uint_as_float((bits & 0x7FFFFF) | 0x3F800000), __uint_as_float(bits & 0x7F800000));
    uint8_t* to =
        shared_.values[stage_.index] + chunk() / 4 * Shape::kValueColumnBytes + half * Shape::kBlockTokens * 128;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const uint32_t both = __shfl_sync(0xFFFFFFFFu, factors, warp_token() + i * kWarpTokens);
      const __half2 mantissa = __low2half2(*reinterpret_cast<const __half2*>(&both));
      const __half2 power = __high2half2(*reinterpret_cast<const __half2*>(&both));
      const uint32_t words[4] = {ahead.data[i].x, ahead.data[i].y, ahead.data[i].z, ahead.data[i].w};
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        uint32_t two[4];
        widen_e4m3(words[2 * j], two[0], two[1]);
        widen_e4m3(words[2 * j + 1], two[2], two[3]);
        __half2 wide[4];
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          wide[k] = __hmul2(__hmul2(*reinterpret_cast<const __half2*>(&two[k]), mantissa), power);
        }
        *reinterpret_cast<uint4*>(to + token(i) * 128 + ((chunk() % 4 * 2 + j ^ token(i) % 8) << 4)) =
            *reinterpret_cast<const uint4*>(wide);
      }
    }
  }

  const AttentionParams& p_;
  typename Shape::Shared& shared_;
  PrefillWalk<typename Shape::Shared> walk_;
  int blocks_[2];
  hopper::Stage<Shape::kKeyStages> key_stage_;
  hopper::Stage<Shape::kValueStages> stage_;
};

}  // namespace hearth::cuda
