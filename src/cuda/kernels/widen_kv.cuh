// widen_kv: what a step's prompt tokens see of an e4m3 cache, as 16-bit pages that the prompt kernel reads like those
// of a 16-bit cache: K and V, each value round(float(e4m3) * scale), zero past the last token of use. Once a layer
// instead of once a tile and query, and rounded once and for all, so that bits depend on no other row.
//
// A warp takes 2 KB at a time: tokens of one page and head, of K or of V. All of its loads are under way together;
// eight values make one 16-byte store, and a warp's stores are consecutive.
#pragma once

#include "cuda/hopper/cluster.cuh"
#include "cuda/kernels/attention_types.cuh"

namespace hearth::cuda {

struct WidenParams {
  const uint8_t *k, *v;  // e4m3 pages
  const float *k_scales, *v_scales;
  uint16_t *wide_k, *wide_v;  // [wide_capacity, kv_heads, 64, head_dim]
  AttentionPlan plan;
  int32_t kv_heads;
  bool planned_before;  // see AttentionParams
};

constexpr int kWidenThreads = 256, kWidenCtas = 4;  // CTAs a multiprocessor

template <typename Act, int kHeadDim>
__global__ void __launch_bounds__(kWidenThreads, kWidenCtas) widen_kv_kernel(const __grid_constant__ WidenParams p) {
  constexpr int kLanes = kHeadDim / 8;                       // of a token
  constexpr int kLoads = 8, kTokens = kLoads * 32 / kLanes;  // of a warp
  constexpr int kParts = static_cast<int>(kBlockSize) / kTokens;
  static_assert(kTokens <= 32);
  // At once, so that the prompt kernel is ready when we end: it reads nothing before it has waited for us, and the
  // kernel for generated tokens behind it starts no sooner, so that it may take for done what we have waited for.
  hopper::start_next_kernel();
  // The plan is older than the kernel before us in all layers but the first. All else waits for that kernel: it appends
  // to the pages, and when it has ended, so has the layer before, whose prompt kernel read the wide pages.
  if (!p.planned_before) hopper::wait_for_previous_kernel();
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const int units = __ldcg(&p.plan.header->wide_pages) * p.kv_heads * 2 * kParts;
  const auto page_of = [&](int index) {
    const int2 bits = __ldcg(reinterpret_cast<const int2*>(p.plan.wide_pages + index));
    return WidePage{bits.x, bits.y};
  };
  // Neighbours go to different CTAs, so that a short prompt takes all multiprocessors.
  int unit = warp * static_cast<int>(gridDim.x) + static_cast<int>(blockIdx.x);
  const int stride = static_cast<int>(gridDim.x) * (kWidenThreads / 32);
  WidePage page{};
  if (unit < units) page = page_of(unit / (2 * kParts) / p.kv_heads);
  if (p.planned_before) hopper::wait_for_previous_kernel();

  while (unit < units) {
    const bool values = unit / kParts % 2 != 0;
    const int first = unit % kParts * kTokens, head = unit / (2 * kParts) % p.kv_heads;
    const int index = unit / (2 * kParts) / p.kv_heads;
    const int64_t from = KvLayout{p.kv_heads, kHeadDim}.row(page.block, head, first);
    const int64_t to = KvLayout{p.kv_heads, kHeadDim}.row(index, head, first);
    const int live = page.tokens - first;
    const auto* source = reinterpret_cast<const uint2*>((values ? p.v : p.k) + from * kHeadDim) + lane;
    uint2 data[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      data[i] = lane / kLanes + i * (32 / kLanes) < live ? __ldcg(source + 32 * i) : make_uint2(0, 0);
    }
    // A lane has the scale of one token.
    const float mine = lane < min(kTokens, live) ? __ldcg((values ? p.v_scales : p.k_scales) + from + lane) : 0.0f;
    unit += stride;
    if (unit < units) page = page_of(unit / (2 * kParts) / p.kv_heads);
    auto* target = reinterpret_cast<uint4*>((values ? p.wide_v : p.wide_k) + to * kHeadDim) + lane;
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const float scale = __shfl_sync(0xFFFFFFFFu, mine, lane / kLanes + i * (32 / kLanes));
      uint32_t narrow[2] = {data[i].x, data[i].y}, wide[4];
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        uint32_t two[2];
        widen_e4m3(narrow[j], two[0], two[1]);
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          const float2 x = __half22float2(*reinterpret_cast<const __half2*>(&two[k]));
          wide[2 * j + k] = Pack<Act>::two(x.x * scale, x.y * scale);
        }
      }
      target[32 * i] = make_uint4(wide[0], wide[1], wide[2], wide[3]);
    }
  }
}

}  // namespace hearth::cuda
