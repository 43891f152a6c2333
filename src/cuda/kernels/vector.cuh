// What every small kernel is made of: eight act values at a time (one 16-byte access), f32 in registers, sums and
// maxima over a block in an order that depends on the block's size alone, and the FP8 recipe of ops/ops.h.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "cuda/kernels/e4m3.cuh"
#include "ops/ops.h"

namespace hearth::cuda {

using Bf16 = __nv_bfloat16;
using Half = __half;

constexpr int kVector = 8;        // act values a thread handles together
constexpr int kRowThreads = 256;  // most threads of a block of the kernels whose threads take one vector each

__device__ __forceinline__ float2 unpack(__nv_bfloat162 v) { return __bfloat1622float2(v); }
__device__ __forceinline__ float2 unpack(__half2 v) { return __half22float2(v); }

template <typename T>
struct Pair;
template <>
struct Pair<Bf16> {
  using Type = __nv_bfloat162;
  static __device__ __forceinline__ Type pack(float a, float b) { return __floats2bfloat162_rn(a, b); }
};
template <>
struct Pair<Half> {
  using Type = __half2;
  static __device__ __forceinline__ Type pack(float a, float b) { return __floats2half2_rn(a, b); }
};

template <typename T>
__device__ __forceinline__ void unpack8(const uint4& bits, float (&v)[8]) {
  const auto* pairs = reinterpret_cast<const typename Pair<T>::Type*>(&bits);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 f = unpack(pairs[i]);
    v[2 * i] = f.x;
    v[2 * i + 1] = f.y;
  }
}

// Rounds to T.
template <typename T>
__device__ __forceinline__ uint4 pack8(const float (&v)[8]) {
  uint4 bits;
  auto* pairs = reinterpret_cast<typename Pair<T>::Type*>(&bits);
#pragma unroll
  for (int i = 0; i < 4; ++i) pairs[i] = Pair<T>::pack(v[2 * i], v[2 * i + 1]);
  return bits;
}

__device__ __forceinline__ uint4 load16(const void* p) { return *static_cast<const uint4*>(p); }
__device__ __forceinline__ void store16(void* p, const uint4& v) { *static_cast<uint4*>(p) = v; }

template <typename T>
__device__ __forceinline__ void load8(const T* p, float (&v)[8]) {
  unpack8<T>(load16(p), v);
}
__device__ __forceinline__ void load8(const float* p, float (&v)[8]) {
  const float4 a = reinterpret_cast<const float4*>(p)[0], b = reinterpret_cast<const float4*>(p)[1];
  v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w, v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
}

struct Fp8Scale {
  float scale, inverse;
};
__device__ __forceinline__ Fp8Scale fp8_scale(float max_abs, float most = kE4M3Max) {
  const float inverse = __fdiv_rn(most, max_abs);
  if (isinf(inverse)) return {1.0f, 1.0f};  // 0, or so close that e4m3 keeps nothing of it either way
  return {__fdiv_rn(max_abs, most), inverse};
}

__device__ __forceinline__ uint2 quantize8(const float (&v)[8], float inverse) {
  uint32_t q[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t low = narrow_e4m3(v[4 * i] * inverse, v[4 * i + 1] * inverse);
    const uint32_t high = narrow_e4m3(v[4 * i + 2] * inverse, v[4 * i + 3] * inverse);
    q[i] = low | high << 16;
  }
  return make_uint2(q[0], q[1]);
}

__device__ __forceinline__ float max_abs8(const float (&v)[8]) {
  float m = 0.0f;
#pragma unroll
  for (float x : v) m = fmaxf(m, fabsf(x));
  return m;
}

// Over aligned runs of kLanes lanes; every lane gets the result.
template <int kLanes>
__device__ __forceinline__ float lanes_max(float v) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) v = fmaxf(v, __shfl_xor_sync(~0u, v, offset));
  return v;
}

template <int kLanes>
__device__ __forceinline__ float lanes_sum(float v) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) v += __shfl_xor_sync(~0u, v, offset);
  return v;
}
__device__ __forceinline__ float warp_sum(float v) { return lanes_sum<32>(v); }

// Over a block of up to 1,024 threads, all of which call it, once; every thread gets the result.
__device__ __forceinline__ float block_max(float v) {
  __shared__ float of_warp[32];
  v = lanes_max<32>(v);
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = v;
  __syncthreads();
  v = threadIdx.x % 32 < blockDim.x / 32 ? of_warp[threadIdx.x % 32] : 0.0f;
  return lanes_max<32>(v);
}

// Orders floats as unsigned integers do: NaN lowest, both zeros equal.
__device__ __forceinline__ uint32_t float_order(float f) {
  const uint32_t bits = __float_as_uint(f + 0.0f);
  if (f != f) return 0;
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float float_of_order(uint32_t order) {
  return __uint_as_float(order & 0x80000000u ? order ^ 0x80000000u : ~order);
}

// A scale group is the 128 channels of 16 neighbouring lanes, whole warps at a time: quantizes them and stores the
// scale where the row's scales of that group are. Every lane of the warp calls it; those beyond the row with zeros.
constexpr int kGroupLanes = kScaleGroup / kVector;
struct QuantizedVector {
  uint2 bits;
  float scale;
};
__device__ __forceinline__ QuantizedVector quantize_group(const float (&v)[8]) {
  const Fp8Scale s = fp8_scale(lanes_max<kGroupLanes>(max_abs8(v)));
  return {quantize8(v, s.inverse), s.scale};
}

}  // namespace hearth::cuda
