// load_rows: rows of a checkpoint's matrix, staged on the device, to where and in the type the products read them: a
// block a row, converted, copied, or brought to e4m3 with a scale for the row.
#pragma once

#include <cuda_fp8.h>

#include "cuda/kernels/vector.cuh"
#include "cuda/load_rows.h"
#include "cuda/weight_tiles.h"
#include "cuda/weight_units.h"

namespace hearth::cuda {

__device__ __forceinline__ float load_value(const void* data, DType dtype, int64_t i) {
  switch (dtype) {
    case DType::kF32: return static_cast<const float*>(data)[i];
    case DType::kF16: return __half2float(static_cast<const Half*>(data)[i]);
    case DType::kE4M3: return __half2float(__nv_cvt_fp8_to_halfraw(static_cast<const uint8_t*>(data)[i], __NV_E4M3));
    default: return __bfloat162float(static_cast<const Bf16*>(data)[i]);
  }
}

__device__ __forceinline__ void store_value(void* data, DType dtype, int64_t i, float value) {
  switch (dtype) {
    case DType::kF32: static_cast<float*>(data)[i] = value; return;
    case DType::kF16: static_cast<Half*>(data)[i] = __float2half_rn(value); return;
    case DType::kE4M3: static_cast<uint8_t*>(data)[i] = __nv_cvt_float_to_fp8(value, __NV_SATFINITE, __NV_E4M3); return;
    default: static_cast<Bf16*>(data)[i] = __float2bfloat16_rn(value);
  }
}

static __global__ void load_rows_kernel(const RowsToLoad p) {
  const int64_t row = p.place.at(p.first_row + blockIdx.x);
  const int64_t in = blockIdx.x * p.columns;
  const int64_t size = dtype_size(p.out_dtype);
  const auto out = [&](int64_t column) {
    return p.tiled ? weight_offset(row, column * size, p.columns * size) / size : row * p.columns + column;
  };
  if (p.in_dtype == DType::kE4M3 && !p.scales) {
    for (int64_t i = threadIdx.x; i < p.columns; i += blockDim.x) {
      static_cast<uint8_t*>(p.out)[out(i)] = static_cast<const uint8_t*>(p.in)[in + i];
    }
    return;
  }
  float inverse = 1.0f;
  if (p.out_dtype == DType::kE4M3) {
    Fp8Scale s{1.0f, 1.0f};
    if (p.in_dtype != DType::kE4M3) {
      float largest = 0.0f;
      for (int64_t i = threadIdx.x; i < p.columns; i += blockDim.x) {
        largest = fmaxf(largest, fabsf(load_value(p.in, p.in_dtype, in + i)));
      }
      s = fp8_scale(block_max(largest));
      __syncthreads();  // before the next block_max
    }
    float norm = 0.0f;  // squared; a warp's spans
    for (int64_t begin = threadIdx.x / 32 * kNormLength; begin < p.columns; begin += blockDim.x / 32 * kNormLength) {
      float squares = 0.0f;
      for (int64_t i = begin + threadIdx.x % 32; i < min(p.columns, begin + kNormLength); i += 32) {
        const float value = load_value(p.in, p.in_dtype, in + i) * s.inverse;
        squares = fmaf(value, value, squares);
      }
      norm = fmaxf(norm, warp_sum(squares));
    }
    const float unit = weight_unit(block_max(norm));
    inverse = s.inverse / unit;
    if (threadIdx.x == 0) p.scales[row] = s.scale * unit;
  }
  bool rounded = false;
  for (int64_t i = threadIdx.x; i < p.columns; i += blockDim.x) {
    float value = load_value(p.in, p.in_dtype, in + i) * inverse;
    if (p.multiplies) value *= static_cast<const float*>(p.out)[out(i)];
    store_value(p.out, p.out_dtype, out(i), value);
    if (p.rounded) rounded |= load_value(p.out, p.out_dtype, out(i)) != value;
  }
  if (p.rounded && __syncthreads_or(rounded) && threadIdx.x == 0) atomicAdd(p.rounded, 1u);
}

}  // namespace hearth::cuda
