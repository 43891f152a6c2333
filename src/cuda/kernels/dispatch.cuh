// dispatch: a token's activation, read once, goes to the rows of its experts: quantized to e4m3 with scales, or copied.
// Without routing the row is the token's own: that is `quantize`. Where a row has one scale a block takes a whole row.
#pragma once

#include "cuda/hopper/cluster.cuh"
#include "cuda/hopper/tma.cuh"
#include "cuda/kernels/true_rows.cuh"
#include "cuda/kernels/vector.cuh"
#include "cuda/l2_prefetch.h"

namespace hearth::cuda {

template <typename T>
struct DispatchParams {
  const T* x;           // [tokens, hidden]
  const int32_t* rows;  // [tokens, top_k], or null: the token's own row
  void* out;            // [rows, hidden] T or e4m3
  float* scales;        // where e4m3: [hidden / 128, scale_stride], or [rows]
  int64_t scale_stride;
  const int32_t* num_rows;
  int64_t tokens;
  int rows_each;  // how many rows one of *num_rows stands for
  int hidden;
  int top_k;
  L2Prefetch ahead;
};

// Behind dispatch products read where the rows of experts are before they wait for it, so that route must have ended.
template <typename T>
__device__ __forceinline__ void begin(const DispatchParams<T>& p) {
  if (threadIdx.x == 0 && blockIdx.y == 0) {
    for (int32_t i = blockIdx.x; i < p.ahead.count; i += gridDim.x)
      hopper::bulk_prefetch(p.ahead.from + i * p.ahead.stride, p.ahead.bytes);
  }
  if (!p.rows) hopper::start_next_kernel();
  hopper::wait_for_previous_kernel();
  if (p.rows) hopper::start_next_kernel();
}

// A block takes a token (x) and up to kRowThreads vectors of its row (y).
template <typename T, bool kQuantize>
__global__ __launch_bounds__(kRowThreads) void dispatch_kernel(const DispatchParams<T> p) {
  const int64_t token = blockIdx.x, tokens = true_rows(p.num_rows, p.tokens, p.rows_each);
  begin(p);
  if (token >= tokens) return;
  const int at = blockIdx.y * kRowThreads + threadIdx.x;
  const bool inside = at * kVector < p.hidden;
  uint4 bits{};
  if (inside) bits = load16(p.x + token * p.hidden + at * kVector);
  QuantizedVector q;
  if constexpr (kQuantize) {
    float v[8];
    unpack8<T>(bits, v);
    q = quantize_group(v);
  }
  if (!inside) return;
  for (int k = 0; k < p.top_k; ++k) {
    const int64_t row = p.rows ? p.rows[token * p.top_k + k] : token;
    const int64_t element = row * p.hidden + at * kVector;
    if constexpr (kQuantize) {
      *reinterpret_cast<uint2*>(static_cast<uint8_t*>(p.out) + element) = q.bits;
      if (at % kGroupLanes == 0) p.scales[at / kGroupLanes * p.scale_stride + row] = q.scale;
    } else {
      store16(static_cast<T*>(p.out) + element, bits);
    }
  }
}

constexpr int kRowQuantizeThreads = 512;

template <typename T, int kVectors>
__device__ __forceinline__ float max_abs(const uint4 (&bits)[kVectors]) {
  auto largest = Pair<T>::pack(0.0f, 0.0f);
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const auto* pairs = reinterpret_cast<const typename Pair<T>::Type*>(&bits[i]);
#pragma unroll
    for (int j = 0; j < 4; ++j) largest = __hmax2(largest, __habs2(pairs[j]));
  }
  const float2 both = unpack(largest);
  return fmaxf(both.x, both.y);
}

// A block walks over rows, the next row's loads in flight while it quantizes one. From the last row to the first: those
// that the kernel before wrote last are still in the L2 cache.
template <typename T, int kPerThread>
__global__ __launch_bounds__(kRowQuantizeThreads,
                             kPerThread < 8 ? 2 : 1) void dispatch_row_kernel(const DispatchParams<T> p) {
  const int64_t tokens = true_rows(p.num_rows, p.tokens, p.rows_each);
  begin(p);
  const int vectors = p.hidden / kVector;
  uint4 next[kPerThread] = {};
  const auto load = [&](int64_t token) {
    if (token < 0) return;
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      const int at = threadIdx.x + i * blockDim.x;
      if (at < vectors) next[i] = __ldcs(reinterpret_cast<const uint4*>(p.x + token * p.hidden + at * kVector));
    }
  };
  int64_t token = tokens - 1 - static_cast<int64_t>(blockIdx.x);
  load(token);
  for (; token >= 0; token -= gridDim.x) {
    uint4 bits[kPerThread];
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) bits[i] = next[i];
    load(token - gridDim.x);
    int32_t my_row = static_cast<int32_t>(token);  // lane k: of expert k
    if (p.rows && threadIdx.x % 32 < p.top_k) my_row = p.rows[token * p.top_k + threadIdx.x % 32];
    const Fp8Scale scale = fp8_scale(block_max(max_abs<T>(bits)), kRowE4M3Max);
    uint2 quantized[kPerThread];
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      float v[8];
      unpack8<T>(bits[i], v);
      quantized[i] = quantize8(v, scale.inverse);
    }
#pragma unroll 1
    for (int k = 0; k < p.top_k; ++k) {
      const int64_t row = __shfl_sync(~0u, my_row, k);
      if (threadIdx.x == 0) p.scales[row] = scale.scale;
      auto* out = reinterpret_cast<uint2*>(static_cast<uint8_t*>(p.out) + row * p.hidden);
#pragma unroll
      for (int i = 0; i < kPerThread; ++i) {
        const int at = threadIdx.x + i * blockDim.x;
        if (at < vectors) out[at] = quantized[i];
      }
    }
    __syncthreads();  // before the next row's block_max
  }
}

}  // namespace hearth::cuda
