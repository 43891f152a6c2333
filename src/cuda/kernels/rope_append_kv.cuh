// rope_append_kv: a few lanes a head of a token, each with 16 of its channels as two vectors: a vector of the first
// rotary half and its partner in the second, or two that are not rotated. Queries go back in place; keys and values to
// their slot, e4m3 with a scale per token and head. A norm of each head sums over its lanes; a norm of all heads gives
// each token a block of its own.
#pragma once

#include "cuda/hopper/cluster.cuh"
#include "cuda/kernels/true_rows.cuh"
#include "cuda/kernels/vector.cuh"
#include "ops/kv_layout.h"

namespace hearth::cuda {

template <typename T>
struct RopeParams {
  T* qkv;  // [tokens, (heads + 2 * kv_heads) * head_dim]
  const int32_t* positions;
  const int64_t* slots;  // below 0: no slot, nothing is appended
  const float* cos_sin;  // [max_positions, rotary]
  void* k;
  void* v;
  float* k_scales;  // with e4m3 pages
  float* v_scales;
  const float* static_k_scale;  // [kv_heads] or null
  const float* static_v_scale;
  const int32_t* num_rows;
  int64_t tokens;
  int heads, kv_heads, rotary;
  const float *q_norm, *k_norm;  // [head_dim], or of all heads
  float epsilon;
};

enum class QkNorm { kNone, kHead, kAllHeads };

constexpr int kRopeThreads = 256;
constexpr int kMostRopeThreads = 1024;  // of a block that has a token

// A head's sum of squares in the order that ops.h states, which begins with vectors l and l + kLanes in lane l. So they
// lie where all of a head is rotated. Else the first `rotating` lanes have vectors l and l + rotating, the others 2 l
// and 2 l + 1.
template <int kLanes>
__device__ __forceinline__ float sum_of_squares(const float (&a)[8], const float (&b)[8], int rotating) {
  float low = 0.0f, high = 0.0f;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    low = fmaf(a[i], a[i], low);
    high = fmaf(b[i], b[i], high);
  }
  if (rotating < kLanes) {
    const int lane = threadIdx.x % kLanes;
    const auto of_vector = [&](int v) {
      const bool rotates = v < 2 * rotating, second = rotates ? v >= rotating : v % 2 == 1;
      const int holder = !rotates ? v / 2 : second ? v - rotating : v;
      const float from_low = __shfl_sync(~0u, low, holder, kLanes), from_high = __shfl_sync(~0u, high, holder, kLanes);
      return second ? from_high : from_low;
    };
    const float first = of_vector(lane), behind = of_vector(lane + kLanes);
    low = first, high = behind;
  }
  return lanes_sum<kLanes>(low + high);
}

template <typename T, int kHeadDim, bool kFp8, QkNorm kNorm>
__global__ __launch_bounds__(kNorm == QkNorm::kAllHeads
                                 ? kMostRopeThreads
                                 : kRopeThreads) void rope_append_kv_kernel(const RopeParams<T> p) {
  hopper::start_next_kernel();
  constexpr int kLanes = kHeadDim / 16;  // a head's
  const uint32_t heads_in_row = p.heads + 2 * p.kv_heads;
  // A block has a token, or as many heads as fit.
  const uint32_t item = ((kNorm == QkNorm::kAllHeads ? 0 : blockIdx.x * kRopeThreads) + threadIdx.x) / kLanes;
  const int64_t token = kNorm == QkNorm::kAllHeads ? blockIdx.x : item / heads_in_row;
  const int head = static_cast<int>(kNorm == QkNorm::kAllHeads ? item : item % heads_in_row);
  const int lane = threadIdx.x % kLanes;
  // Lanes past the end stay for the shuffles.
  const bool live = token < p.tokens && token < true_rows(p.num_rows, p.tokens) &&
                    (kNorm != QkNorm::kAllHeads || head < static_cast<int>(heads_in_row));

  const bool is_value = head >= p.heads + p.kv_heads;
  const bool rotates = !is_value && lane * 16 < p.rotary;
  const int first = rotates ? lane * kVector : lane * 16;
  const int second = rotates ? first + p.rotary / 2 : first + kVector;
  float a[8] = {}, b[8] = {}, cosine[8], sine[8];
  // A step's inputs, ahead of the kernel before us.
  const int64_t slot = token < p.tokens ? __ldcg(p.slots + token) : -1;
  if (live && rotates) {
    const float* angles = p.cos_sin + int64_t{__ldcg(p.positions + token)} * p.rotary + first;
    load8(angles, cosine);
    load8(angles + p.rotary / 2, sine);
  }
  float weight_a[8] = {}, weight_b[8] = {};
  if constexpr (kNorm != QkNorm::kNone) {
    if (live && !is_value) {
      const float* weight = head < p.heads ? p.q_norm : p.k_norm;
      if (kNorm == QkNorm::kAllHeads) weight += (head < p.heads ? head : head - p.heads) * kHeadDim;
      load8(weight + first, weight_a);
      load8(weight + second, weight_b);
    }
  }
  hopper::wait_for_previous_kernel();
  T* row = nullptr;
  if (live) {
    row = p.qkv + (token * heads_in_row + head) * kHeadDim;
    load8(row + first, a);
    load8(row + second, b);
  }
  if constexpr (kNorm != QkNorm::kNone) {
    float squares = sum_of_squares<kLanes>(a, b, p.rotary / 16), width = kHeadDim;
    if constexpr (kNorm == QkNorm::kAllHeads) {
      __shared__ float of_head[kMostRopeThreads / kLanes];
      if (lane == 0) of_head[head] = squares;
      __syncthreads();
      const int begin = head < p.heads ? 0 : p.heads, count = head < p.heads ? p.heads : p.kv_heads;
      squares = 0.0f;
      for (int h = 0; !is_value && h < count; ++h) squares += of_head[begin + h];
      width *= static_cast<float>(count);
    }
    const float inverse = __fdiv_rn(1.0f, __fsqrt_rn(__fdiv_rn(squares, width) + p.epsilon));
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      a[i] = is_value ? a[i] : a[i] * inverse * weight_a[i];
      b[i] = is_value ? b[i] : b[i] * inverse * weight_b[i];
    }
  }
  if (live && rotates) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float x = a[i], y = b[i];
      a[i] = __fsub_rn(__fmul_rn(x, cosine[i]), __fmul_rn(y, sine[i]));
      b[i] = __fadd_rn(__fmul_rn(y, cosine[i]), __fmul_rn(x, sine[i]));
    }
  }
  if (head < p.heads) {
    if (live && (rotates || kNorm != QkNorm::kNone)) {
      store16(row + first, pack8<T>(a));
      store16(row + second, pack8<T>(b));
    }
    if constexpr (!kFp8) return;  // with e4m3 pages, the lanes beside it may hold a key
  }
  const int kv_head = is_value ? head - p.heads - p.kv_heads : head - p.heads;
  Fp8Scale scale{};
  if constexpr (kFp8) {
    scale = fp8_scale(lanes_max<kLanes>(fmaxf(max_abs8(a), max_abs8(b))));
    if (head < p.heads) return;
    const float* fixed = is_value ? p.static_v_scale : p.static_k_scale;
    if (fixed && live) scale = {fixed[kv_head], __fdiv_rn(1.0f, fixed[kv_head])};
  }
  if (!live || slot < 0) return;
  const int64_t page_row = KvLayout{p.kv_heads, kHeadDim}.slot_row(slot, kv_head);
  void* page = is_value ? p.v : p.k;
  if constexpr (kFp8) {
    uint8_t* out = static_cast<uint8_t*>(page) + page_row * kHeadDim;
    *reinterpret_cast<uint2*>(out + first) = quantize8(a, scale.inverse);
    *reinterpret_cast<uint2*>(out + second) = quantize8(b, scale.inverse);
    if (lane == 0) (is_value ? p.v_scales : p.k_scales)[page_row] = scale.scale;
  } else {
    T* out = static_cast<T*>(page) + page_row * kHeadDim;
    store16(out + first, pack8<T>(a));
    store16(out + second, pack8<T>(b));
  }
}

}  // namespace hearth::cuda
