// The producer of FireAttention's prompt kernel: tiles of keys and values from their pages into the rings, by tensor
// copies.
#pragma once

#include "cuda/kernels/fire_attention_prefill_items.cuh"

namespace hearth::cuda {

// The row of K or V where a block of a head begins. A block of no use reads as zeros.
__device__ inline int block_row(const AttentionParams& p, int block, int kv_head) {
  return block < 0 ? 0x7FFFFF00 : (block * p.kv_heads + kv_head) * static_cast<int>(kBlockSize);
}

// Starts the copies of one tile of keys or values; one warp.
template <typename Shape>
__device__ void copy_tile(const AttentionParams& p, const CUtensorMap& map, const int (&blocks)[2], int kv_head,
                          uint8_t (*tiles)[Shape::kTileBytes], hopper::Ring<Shape::kStages>& ring,
                          hopper::Stage<Shape::kStages>& stage) {
  hopper::mbarrier_wait(&ring.empty[stage.index], stage.parity ^ 1);
  if (threadIdx.x % 32 == 0) {
    uint64_t* full = &ring.full[stage.index];
    hopper::mbarrier_arrive_expect(full, Shape::kTileBytes);
#pragma unroll
    for (int block = 0; block < 2; ++block) {
      const int row = block_row(p, blocks[block], kv_head);
#pragma unroll
      for (int i = 0; i < Shape::kColumns; ++i) {
        hopper::tma_load_2d(tiles[stage.index] + i * Shape::kColumnBytes + block * Shape::kBlockTokens * 128, &map,
                            full, i * 64, row);
      }
    }
  }
  __syncwarp();
  stage.advance();
}

// One warp.
template <typename Shape>
__device__ void prefill_produce(const AttentionParams& p, typename Shape::Shared& shared) {
  hopper::Stage<Shape::kStages> key_stage, value_stage;
  for (PrefillWalk walk(p, shared); walk.live(); walk.advance()) {
    const int blocks[2] = {walk.block(0), walk.block(1)};
    copy_tile<Shape>(p, p.k_map, blocks, walk.kv_head(), shared.keys, shared.key_ring, key_stage);
    copy_tile<Shape>(p, p.v_map, blocks, walk.kv_head(), shared.values, shared.value_ring, value_stage);
  }
}

}  // namespace hearth::cuda
