// The inner loop of grouped_gemm: one warpgroup multiplies 64 weight rows by N tokens over all of K, stage by stage.
// 16 bit: the tensor core keeps the totals. e4m3 where a row of x has one scale: it keeps sums over 1,024 of K in
// float16, which add up in float16 too; the epilogue scales. e4m3 with a scale for every 128 of K: N is cut into chunks
// of at most 96 tokens; a chunk's sum over 128 of K lands in registers of its own and is added, scaled, to the total:
// 2/3 N registers where two full accumulators take N, which is what lets one CTA hold 288 tokens. While one warpgroup
// adds, the other's product keeps the tensor core busy.
#pragma once

#include "cuda/hopper/pipeline.cuh"
#include "cuda/hopper/wgmma.cuh"
#include "cuda/kernels/grouped_gemm_params.h"
#include "cuda/weight_tiles.h"
#include "cuda/weight_units.h"

namespace hearth::cuda {

using StageRing = hopper::Ring<kMaxStages>;
using StageAt = hopper::Stage<kMaxStages>;

// Calls f<begin, width>() for even chunks of N, each at most kMaxWidth wide.
template <int N, int kMaxWidth, int kBegin = 0, typename F>
__device__ __forceinline__ void for_chunks(F&& f) {
  constexpr int kCount = (N + kMaxWidth - 1) / kMaxWidth;
  constexpr int kWidth = (N / 8 + kCount - 1) / kCount * 8;
  if constexpr (kBegin + kWidth < N) {
    f.template operator()<kBegin, kWidth>();
    for_chunks<N, kMaxWidth, kBegin + kWidth>(f);  // N - kBegin chunks as evenly again
  } else {
    f.template operator()<kBegin, N - kBegin>();
  }
}

// What a consumer thread needs to walk the ring, worked out once: in the loop every instruction on the way from a full
// stage to its product counts, and reading thread ids or mapping addresses there is slow.
struct Operands {
  uint32_t full;             // shared address of full[0]
  uint32_t empty;            // of empty[0], in the CTA this lane lets go for
  bool releases;             // whether this lane lets go for anyone
  uint32_t weights, tokens;  // stage 0's descriptors, low words
  uint32_t stage_units;      // from stage to stage, of 16 bytes
  uint32_t scales;           // shared address of stage 0's scales, from this thread's first token on
  uint32_t scale_bytes;      // from stage to stage
  int stages;
};

// Each warp lets go of a stage for itself, in every CTA that may refill it.
__device__ __forceinline__ void release(const Operands& o, int stage) {
  __syncwarp();
  if (o.releases) hopper::mbarrier_release(o.empty + 8 * stage);
}

// What the tensor core keeps a sum in: a float, or a float16 of a pair.
template <typename Sum, int N>
constexpr int kSums = N* static_cast<int>(sizeof(Sum)) / (std::is_same_v<Sum, float> ? 8 : 16);

template <typename T, int kBegin, int kWidth, typename Sum>
__device__ __forceinline__ void multiply_stage(Sum (&sum)[kSums<Sum, kWidth>], const Operands& o, int stage,
                                               bool accumulate) {
  using Mma = std::conditional_t<std::is_same_v<Sum, float>, hopper::Wgmma<T, kWidth>, hopper::WgmmaF16<kWidth>>;
  const uint32_t weights = o.weights + stage * o.stage_units, tokens = o.tokens + stage * o.stage_units;
  // 128 bytes of K are four instructions; 8 tokens are 1,024 bytes, 64 units of a descriptor.
#pragma unroll
  for (int i = 0; i < 4; ++i)
    Mma::run(sum, hopper::wgmma_descriptor(weights + 2 * i), hopper::wgmma_descriptor(tokens + kBegin * 8 + 2 * i),
             accumulate || i);
}

// What a thread's two weight rows are scaled by within 128 of K: one scale for both, or, where they are gate and up,
// two.
template <bool kPairs>
struct WeightScale {
  float first = 1.0f;
};
template <>
struct WeightScale<true> {
  float first = 1.0f, second = 1.0f;
};

// A chunk of the tile in flight: N tokens' sums over one stage, and the scales they await. A thread's scales are two
// neighbouring ones in every 8.
template <int kBegin, int kWidth>
struct Chunk {
  float partial[kWidth / 2];
  float2 scale[kWidth / 8];

  __device__ __forceinline__ void start(const Operands& o, int stage) {
#pragma unroll
    for (int j = 0; j < kWidth / 8; ++j)
      asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];"
                   : "=f"(scale[j].x), "=f"(scale[j].y)
                   : "r"(o.scales + stage * o.scale_bytes + 4 * kBegin + 32 * j));
    hopper::wgmma_fence();
    multiply_stage<E4M3, kBegin, kWidth>(partial, o, stage, false);
    hopper::wgmma_commit();
  }

  // Waits until at most kPending younger products run, then adds.
  template <int kPending, bool kPairs>
  __device__ __forceinline__ void finish(float* total, WeightScale<kPairs> w_scale) {
    if constexpr (!kPairs) {
#pragma unroll
      for (int j = 0; j < kWidth / 8; ++j) scale[j].x *= w_scale.first, scale[j].y *= w_scale.first;
    }
    hopper::wgmma_wait<kPending>();
    hopper::wgmma_pin(partial);
    total += kBegin / 2;
#pragma unroll
    for (int i = 0; i < kWidth / 2; ++i) {
      float each = i % 2 ? scale[i / 4].y : scale[i / 4].x;
      if constexpr (kPairs) each *= i / 2 % 2 ? w_scale.second : w_scale.first;
      total[i] = fmaf(partial[i], each, total[i]);
    }
  }
};

// The stages' weight scales, read one stage ahead; 1 where there are none. Those of the second rows of pairs follow the
// first ones'.
template <bool kPairs>
class BlockScales {
 public:
  __device__ BlockScales(const float* scales, int count) : scales_(scales), left_(count), count_(count) {
    if (scales_) read();
  }
  __device__ __forceinline__ WeightScale<kPairs> next() {
    const WeightScale<kPairs> scale = ahead_;
    if (scales_ && --left_ > 0) ++scales_, read();
    return scale;
  }

 private:
  __device__ __forceinline__ void read() {
    ahead_.first = __ldg(scales_);
    if constexpr (kPairs) ahead_.second = __ldg(scales_ + count_);
  }

  const float* scales_;
  int left_, count_;
  WeightScale<kPairs> ahead_;
};

// Tiles to 160 tokens leave registers for two chunks in flight: two stages of all tokens, or two halves of one stage.
template <int N, bool kPairs>
__device__ __forceinline__ void accumulate_scaled(float (&total)[N / 2], const Operands& o, int k_blocks,
                                                  const float* block_scales, StageAt& at) {
  constexpr int kMaxChunk = 96;
  BlockScales<kPairs> scales(block_scales, k_blocks);
#pragma unroll
  for (int i = 0; i < N / 2; ++i) total[i] = 0.0f;
  const auto wait_stage = [&] { hopper::mbarrier_wait(o.full + 8 * at.index, at.parity); };
  const auto one_stage = [&] {
    const WeightScale<kPairs> w_scale = scales.next();
    wait_stage();
    if constexpr (N > kMaxChunk && N <= 160) {
      constexpr int kFirst = (N / 8 + 1) / 2 * 8;
      Chunk<0, kFirst> a;
      Chunk<kFirst, N - kFirst> b;
      a.start(o, at.index);
      b.start(o, at.index);
      a.template finish<1, kPairs>(total, w_scale);
      b.template finish<0, kPairs>(total, w_scale);
    } else {
      for_chunks<N, kMaxChunk>([&]<int kBegin, int kWidth>() {
        Chunk<kBegin, kWidth> chunk;
        chunk.start(o, at.index);
        chunk.template finish<0, kPairs>(total, w_scale);
      });
    }
    release(o, at.index);
    at.advance(o.stages);
  };
  int block = 0;
  if constexpr (N <= kMaxChunk) {
#pragma unroll 1
    for (; block + 1 < k_blocks; block += 2) {
      Chunk<0, N> a, b;
      const int first = at.index;
      const WeightScale<kPairs> w_scale = scales.next(), next_w_scale = scales.next();
      wait_stage();
      a.start(o, first);
      at.advance(o.stages);
      wait_stage();
      b.start(o, at.index);
      a.template finish<1, kPairs>(total, w_scale);
      release(o, first);
      b.template finish<0, kPairs>(total, next_w_scale);
      release(o, at.index);
      at.advance(o.stages);
    }
    if (block < k_blocks) one_stage();
  } else {
#pragma unroll 1
    for (; block < k_blocks; ++block) one_stage();
  }
}

// One stage's products queued; its slot is let go of when the next stage's are.
template <typename T, int N, bool kFirst, typename Sum>
__device__ __forceinline__ void multiply_next(Sum (&sum)[kSums<Sum, N>], const Operands& o, StageAt& at,
                                              int& previous) {
  hopper::mbarrier_wait(o.full + 8 * at.index, at.parity);
  hopper::wgmma_fence();
  for_chunks<N, 256>([&]<int kBegin, int kWidth>() {
    auto& chunk = *reinterpret_cast<Sum(*)[kSums<Sum, kWidth>]>(sum + kSums<Sum, kBegin>);
    multiply_stage<T, kBegin, kWidth>(chunk, o, at.index, !kFirst);
  });
  hopper::wgmma_commit();
  if constexpr (!kFirst) {
    hopper::wgmma_wait<1>();
    release(o, previous);
  }
  previous = at.index;
  at.advance(o.stages);
}

// The sum over the next `count` stages, which the tensor core keeps itself.
template <typename T, int N, typename Sum>
__device__ __forceinline__ void sum_stages(Sum (&sum)[kSums<Sum, N>], const Operands& o, int count, StageAt& at) {
  int previous;
  multiply_next<T, N, true>(sum, o, at, previous);
#pragma unroll 1
  for (int i = 1; i < count; ++i) multiply_next<T, N, false>(sum, o, at, previous);
  hopper::wgmma_wait<0>();
  hopper::wgmma_pin(sum);
  release(o, previous);
}

// e4m3: the tensor core sums 1,024 of K at a time in float16, which takes less power than float32 and half the
// registers. None of these sums can overflow, for weights come in units that see to it (weight_units.h); nor can what
// they add up to, in float16 too, as such a part that all of K fits.
class SpanSums {
 public:
  explicit __device__ SpanSums(int k_blocks) {
    constexpr int kSpan = kSumLength / kWeightTileBytes;
    const int halvings = 32 - __clz((k_blocks - 1) / kSpan);  // until all spans together are no more than one
    part_ = (0x3C00 - (halvings << 10)) * 0x10001;
    whole_ = __uint_as_float((127 + halvings) << 23);
  }
  template <int kPairs>
  __device__ __forceinline__ void add(uint32_t (&parts)[kPairs], const uint32_t (&sum)[kPairs]) const {
#pragma unroll
    for (int i = 0; i < kPairs; ++i)
      asm volatile("fma.rn.f16x2 %0, %1, %2, %0;" : "+r"(parts[i]) : "r"(sum[i]), "r"(part_));
  }
  template <int kPairs>
  __device__ __forceinline__ void widen(const uint32_t (&parts)[kPairs], float (&total)[2 * kPairs]) const {
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      float low, high;
      asm("{ .reg .b16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h; }"
          : "=f"(low), "=f"(high)
          : "r"(parts[i]));
      total[2 * i] = low * whole_;
      total[2 * i + 1] = high * whole_;
    }
  }

 private:
  uint32_t part_;
  float whole_;
};

// Adding takes a warpgroup as long as a stage. So that two do not leave the tensor core idle together, those of every
// other 64 weight rows (`odd`) begin with half a span: the one adds while the other multiplies.
template <int N>
__device__ __forceinline__ void accumulate_e4m3(float (&total)[N / 2], const Operands& o, int k_blocks, StageAt& at,
                                                bool odd) {
  constexpr int kSpan = kSumLength / kWeightTileBytes;
  const SpanSums sums(k_blocks);
  uint32_t parts[N / 4];
#pragma unroll
  for (int i = 0; i < N / 4; ++i) parts[i] = 0;
#pragma unroll 1
  for (int span = odd ? kSpan / 2 : kSpan; k_blocks > 0; k_blocks -= span, span = kSpan) {
    uint32_t sum[N / 4];
    sum_stages<E4M3, N>(sum, o, min(k_blocks, span), at);
    sums.add(parts, sum);
  }
  sums.widen(parts, total);
}

}  // namespace hearth::cuda
