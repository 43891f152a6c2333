// load_rows: rows of a checkpoint's matrix, staged on the device, to where and in the type the products read them: a
// block a row, converted, copied, or quantized to e4m3 with a scale for the row.
#pragma once

#include "cuda/kernels/vector.cuh"
#include "cuda/load_rows.h"
#include "cuda/weight_tiles.h"

namespace hearth::cuda {

__device__ __forceinline__ float load_value(const void* data, DType dtype, int64_t i) {
  switch (dtype) {
    case DType::kF32: return static_cast<const float*>(data)[i];
    case DType::kF16: return __half2float(static_cast<const Half*>(data)[i]);
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
  __shared__ float maxima[32];
  const int64_t row = p.place.at(p.first_row + blockIdx.x);
  const int64_t in = blockIdx.x * p.columns;
  const int64_t size = dtype_size(p.out_dtype);
  const auto out = [&](int64_t column) {
    return p.tiled ? weight_offset(row, column * size, p.columns * size) / size : row * p.columns + column;
  };
  if (p.in_dtype == DType::kE4M3) {
    for (int64_t i = threadIdx.x; i < p.columns; i += blockDim.x) {
      static_cast<uint8_t*>(p.out)[out(i)] = static_cast<const uint8_t*>(p.in)[in + i];
    }
    return;
  }
  float inverse = 1.0f;
  if (p.out_dtype == DType::kE4M3) {
    float largest = 0.0f;
    for (int64_t i = threadIdx.x; i < p.columns; i += blockDim.x) {
      largest = fmaxf(largest, fabsf(load_value(p.in, p.in_dtype, in + i)));
    }
    largest = lanes_max<32>(largest);
    if (threadIdx.x % 32 == 0) maxima[threadIdx.x / 32] = largest;
    __syncthreads();
    for (unsigned i = 0; i < blockDim.x / 32; ++i) largest = fmaxf(largest, maxima[i]);
    const Fp8Scale s = fp8_scale(largest);
    inverse = s.inverse;
    if (threadIdx.x == 0) p.scales[row] = s.scale;
  }
  for (int64_t i = threadIdx.x; i < p.columns; i += blockDim.x) {
    store_value(p.out, p.out_dtype, out(i), load_value(p.in, p.in_dtype, in + i) * inverse);
  }
}

}  // namespace hearth::cuda
