// What both attention kernels are given, and the conversions that kernels of attention share.
#pragma once

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "cuda/attention_plan.h"
#include "cuda/kernels/e4m3.cuh"
#include "cuda/kernels/tree_fold.cuh"
#include "tensor/dtype.h"

namespace hearth::cuda {

struct AttentionParams {
  CUtensorMap k_map, v_map;        // prompts: a box is a block of one head, in columns of 128 bytes
  CUtensorMap pages_map;           // a box is a block of one head of both K and V, all its columns
  CUtensorMap scales_map;          // a box is the scales of both
  int32_t keys_at, key_scales_at;  // which of the two in a box are K's: those at the lower address come first
  CUtensorMap q_map;               // a box is the query heads of a KV head, for the tokens of a prompt tile
  AttentionPlan plan;
  const void* q;     // row r, head h at (r * q_stride + h * head_dim)
  int64_t q_stride;  // in elements
  const int32_t *block_tables, *context_lens;
  int64_t max_blocks;
  void* out;  // [rows, heads, head_dim]: in the act type, or e4m3
  bool out_e4m3;
  float out_factor;    // multiplies out
  const float* sinks;  // [heads], natural logarithms, or null
  float* partials;     // [slot_capacity, parts], each what the threads of a team hold
  int32_t* arrivals;   // [slot_capacity, parts], zero between launches
  int32_t kv_heads, group, window;
  HeadParts head_parts;  // of generated tokens
  float scale;           // softmax scale times log2(e)
  bool beside_prefill;   // generated tokens: the kernel before is the same step's prompt kernel
  bool planned_before;   // the plan was there long before the kernel before: without prompts, pages of older tokens may
                         // be read at once
};

// The query heads of one part of an item of generated tokens.
struct PartHeads {
  int32_t kv_head, first, count;  // `first` of all query heads
  __device__ __forceinline__ PartHeads(const AttentionParams& p, int32_t part) {
    const HeadParts& parts = p.head_parts;
    kv_head = parts.each == 1 ? part : part / parts.each;
    const int32_t before = (part - kv_head * parts.each) * parts.heads;  // of its KV head's
    first = kv_head * p.group + before;
    count = min(parts.heads, p.group - before);
  }
};

// What a head's sink adds to a row's sum of weights, which are relative to `top`, a base-2 logit.
__device__ __forceinline__ float sink_weight(const AttentionParams& p, int head, float top) {
  constexpr float kLog2e = 1.44269504f;
  return exp2_fast(__fmaf_rn(__ldg(p.sinks + head), kLog2e, -top));
}

template <typename T>
struct Pack;
template <>
struct Pack<F16> {
  __device__ static __forceinline__ uint32_t two(float low, float high) {
    uint32_t packed;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
  }
  __device__ static __forceinline__ uint16_t one(float x) { return __half_as_ushort(__float2half_rn(x)); }
  __device__ static __forceinline__ float widen(uint16_t x) { return __half2float(__ushort_as_half(x)); }
};
template <>
struct Pack<BF16> {
  __device__ static __forceinline__ uint32_t two(float low, float high) {
    uint32_t packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
  }
  __device__ static __forceinline__ uint16_t one(float x) { return __bfloat16_as_ushort(__float2bfloat16_rn(x)); }
  __device__ static __forceinline__ float widen(uint16_t x) { return __uint_as_float(static_cast<uint32_t>(x) << 16); }
};

// 16-bit type in which the tensor cores see V and the probabilities of generated tokens, and K and q where the cache
// has that type.
template <typename Act, typename Kv>
using MmaType = std::conditional_t<std::is_same_v<Kv, E4M3>, F16, Act>;

// Byte offset of 16-byte chunk `chunk` of token `token` in a block's tile of rows of kRowBytes, as the copy engine
// leaves it: columns of 128 bytes one after the other, each swizzled over 8 rows; rows of 64 bytes swizzled so.
template <int kRowBytes>
__device__ __forceinline__ uint32_t tile_offset(int token, int chunk) {
  if constexpr (kRowBytes >= 128) {
    const int column = chunk >> 3;
    return column * (kBlockSize * 128) + token * 128 + (((chunk & 7) ^ (token & 7)) << 4);
  } else {
    const int at = token * kRowBytes + chunk * 16;
    return at ^ ((at >> 7 & 3) << 4);
  }
}

}  // namespace hearth::cuda
