// A thread makes two normals at a time (Box and Muller 1958) from Philox bits; the position of an element is its
// counter.
#include "cuda/check.h"
#include "cuda/fill_random.h"
#include "ops/sampling.h"

namespace hearth::cuda {
namespace {

constexpr int kThreads = 256;

template <typename T>
__device__ T store_as(float v);
template <>
__device__ float store_as<float>(float v) {
  return v;
}
template <>
__device__ BF16 store_as<BF16>(float v) {
  return to_bf16(v);
}
template <>
__device__ F16 store_as<F16>(float v) {
  return to_f16(v);
}
template <>
__device__ E4M3 store_as<E4M3>(float v) {
  return to_e4m3(v);
}

template <typename T>
__global__ void normal_kernel(T* out, int64_t n, float deviation, uint64_t seed) {
  const int64_t stride = int64_t{gridDim.x} * kThreads * 2;
  for (int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * 2; i < n; i += stride) {
    const auto high = static_cast<uint32_t>(i >> 32), low = static_cast<uint32_t>(i);
    const float radius = deviation * sqrtf(-2.0f * __logf(philox_uniform(seed, high, low)));
    float sine, cosine;
    __sincosf(6.2831853f * philox_uniform(seed, high, low + 1), &sine, &cosine);
    out[i] = store_as<T>(radius * cosine);
    if (i + 1 < n) out[i + 1] = store_as<T>(radius * sine);
  }
}

__global__ void constant_kernel(float* out, int64_t n, float value) {
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < n; i += int64_t{gridDim.x} * kThreads) {
    out[i] = value;
  }
}

template <typename T>
void launch_normal(const Tensor& out, float deviation, uint64_t seed, cudaStream_t stream) {
  normal_kernel<<<132 * 16, kThreads, 0, stream>>>(out.as<T>(), out.shape.elements(), deviation, seed);
}

}  // namespace

void fill_random(const Tensor& out, float deviation, uint64_t seed, cudaStream_t stream) {
  switch (out.dtype) {
    case DType::kF32: launch_normal<float>(out, deviation, seed, stream); break;
    case DType::kF16: launch_normal<F16>(out, deviation, seed, stream); break;
    case DType::kBF16: launch_normal<BF16>(out, deviation, seed, stream); break;
    case DType::kE4M3: launch_normal<E4M3>(out, deviation, seed, stream); break;
    default: HEARTH_CHECK(false);
  }
  HEARTH_CUDA_CHECK(cudaGetLastError());
}

void fill_constant(const Tensor& out, float value, cudaStream_t stream) {
  constant_kernel<<<132, kThreads, 0, stream>>>(out.as<float>(), out.shape.elements(), value);
  HEARTH_CUDA_CHECK(cudaGetLastError());
}

}  // namespace hearth::cuda
