// Timing, random data and the read-bandwidth ceiling of the kernel benchmarks.
#include <algorithm>

#include "cuda/bench/rows.h"
#include "cuda/check.h"
#include "tensor/dtype.h"

namespace hearth::cuda {
namespace {

__device__ uint32_t hash(uint64_t i, uint32_t seed) {
  uint64_t x = (i + 1) * 0x9E3779B97F4A7C15ull ^ (uint64_t{seed} << 32);
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return static_cast<uint32_t>(x >> 32);
}

__device__ float normal(uint64_t i, uint32_t seed) {  // Box and Muller
  const float u = (hash(2 * i, seed) + 1.0f) * 0x1p-32f, v = hash(2 * i + 1, seed) * 0x1p-32f;
  return sqrtf(-2.0f * __logf(u)) * __cosf(6.2831853f * v);
}

__global__ void fill_e4m3_kernel(uint8_t* data, int64_t size, float deviation, uint32_t seed) {
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < size; i += int64_t{gridDim.x} * blockDim.x)
    data[i] = to_e4m3(normal(i, seed) * deviation).bits;
}
__global__ void fill_bf16_kernel(uint16_t* data, int64_t size, float deviation, uint32_t seed) {
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < size; i += int64_t{gridDim.x} * blockDim.x)
    data[i] = to_bf16(normal(i, seed) * deviation).bits;
}
__global__ void fill_f32_kernel(float* data, int64_t size, float value) {
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < size; i += int64_t{gridDim.x} * blockDim.x)
    data[i] = value;
}

__global__ void read_kernel(const uint4* data, int64_t size, uint32_t* sink) {
  uint32_t sum = 0;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i + 7 * step < size; i += 8 * step) {
    uint4 v[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) v[j] = __ldcs(data + i + j * step);
#pragma unroll
    for (int j = 0; j < 8; ++j) sum += v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
  }
  if (sum == 0x12345678) *sink = sum;
}

}  // namespace

void fill_normal_e4m3(void* data, int64_t size, float deviation, uint32_t seed) {
  fill_e4m3_kernel<<<1056, 512>>>(static_cast<uint8_t*>(data), size, deviation, seed);
  HEARTH_CUDA_CHECK(cudaGetLastError());
}
void fill_normal_bf16(void* data, int64_t size, float deviation, uint32_t seed) {
  fill_bf16_kernel<<<1056, 512>>>(static_cast<uint16_t*>(data), size, deviation, seed);
  HEARTH_CUDA_CHECK(cudaGetLastError());
}
void fill_f32(float* data, int64_t size, float value) {
  fill_f32_kernel<<<1056, 512>>>(data, size, value);
  HEARTH_CUDA_CHECK(cudaGetLastError());
}

double time_calls(int calls, const std::function<void(int call, cudaStream_t)>& launch) {
  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t replay;
  cudaEvent_t begin, end;
  HEARTH_CUDA_CHECK(cudaStreamCreate(&stream));
  HEARTH_CUDA_CHECK(cudaEventCreate(&begin));
  HEARTH_CUDA_CHECK(cudaEventCreate(&end));
  launch(0, stream);
  HEARTH_CUDA_CHECK(cudaStreamSynchronize(stream));
  HEARTH_CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < calls; ++i) launch(i, stream);
  HEARTH_CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
  HEARTH_CUDA_CHECK(cudaGraphInstantiate(&replay, graph, 0));
  for (int i = 0; i < 2; ++i) HEARTH_CUDA_CHECK(cudaGraphLaunch(replay, stream));
  std::vector<float> times;
  for (int i = 0; i < 7; ++i) {
    HEARTH_CUDA_CHECK(cudaEventRecord(begin, stream));
    HEARTH_CUDA_CHECK(cudaGraphLaunch(replay, stream));
    HEARTH_CUDA_CHECK(cudaEventRecord(end, stream));
    HEARTH_CUDA_CHECK(cudaEventSynchronize(end));
    float ms;
    HEARTH_CUDA_CHECK(cudaEventElapsedTime(&ms, begin, end));
    times.push_back(ms);
  }
  HEARTH_CUDA_CHECK(cudaGraphExecDestroy(replay));
  HEARTH_CUDA_CHECK(cudaGraphDestroy(graph));
  HEARTH_CUDA_CHECK(cudaEventDestroy(begin));
  HEARTH_CUDA_CHECK(cudaEventDestroy(end));
  HEARTH_CUDA_CHECK(cudaStreamDestroy(stream));
  std::sort(times.begin(), times.end());
  return times[times.size() / 2] * 1e3 / calls;
}

Ceilings measure_ceilings() {
  constexpr int64_t kBytes = int64_t{4} << 30;
  char* data;
  HEARTH_CUDA_CHECK(cudaMalloc(&data, kBytes + 256));
  fill_normal_e4m3(data, kBytes, 60.0f, 1);
  const double us = time_calls(3, [&](int, cudaStream_t stream) {
    read_kernel<<<132 * 4, 512, 0, stream>>>(reinterpret_cast<const uint4*>(data), kBytes / 16,
                                             reinterpret_cast<uint32_t*>(data + kBytes));
    HEARTH_CUDA_CHECK(cudaGetLastError());
  });
  HEARTH_CUDA_CHECK(cudaFree(data));
  Ceilings c;
  c.read_tbs = kBytes / us / 1e6;
  return c;
}

}  // namespace hearth::cuda
