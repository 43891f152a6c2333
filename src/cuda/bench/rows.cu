// Timing, random data and the read-bandwidth ceiling of the kernel benchmarks.
#include <algorithm>
#include <chrono>

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

// By multiprocessor: its own clock, which goes on between kernels, and the time, in ns.
struct ClockReading {
  uint64_t clocks, ns;
};

__global__ void read_clock_kernel(ClockReading* readings) {
  uint32_t sm;
  ClockReading reading;
  asm volatile("mov.u32 %0, %%smid;" : "=r"(sm));
  asm volatile("mov.u64 %0, %%clock64;" : "=l"(reading.clocks));
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(reading.ns));
  readings[sm] = reading;
}

// The clock between two points of a stream.
class ClockMeter {
 public:
  ClockMeter() {
    HEARTH_CUDA_CHECK(cudaDeviceGetAttribute(&count_, cudaDevAttrMultiProcessorCount, 0));
    HEARTH_CUDA_CHECK(cudaMalloc(&readings_, 2 * kMost * sizeof(ClockReading)));
  }
  ~ClockMeter() { cudaFree(readings_); }
  ClockMeter(const ClockMeter&) = delete;
  void begin(cudaStream_t stream) { read(readings_, stream); }
  void end(cudaStream_t stream) { read(readings_ + kMost, stream); }
  // Of any multiprocessor that ran both kernels; the stream is idle.
  double ghz() const {
    std::vector<ClockReading> readings(2 * kMost);
    HEARTH_CUDA_CHECK(
        cudaMemcpy(readings.data(), readings_, readings.size() * sizeof(ClockReading), cudaMemcpyDeviceToHost));
    for (size_t sm = 0; sm < kMost; ++sm) {
      const ClockReading &a = readings[sm], &b = readings[kMost + sm];
      if (a.ns > 0 && b.ns > a.ns) return static_cast<double>(b.clocks - a.clocks) / static_cast<double>(b.ns - a.ns);
    }
    return 0;
  }

 private:
  static constexpr int kMost = 256;
  void read(ClockReading* to, cudaStream_t stream) {
    HEARTH_CUDA_CHECK(cudaMemsetAsync(to, 0, kMost * sizeof(ClockReading), stream));
    read_clock_kernel<<<2 * count_, 1, 0, stream>>>(to);
    HEARTH_CUDA_CHECK(cudaGetLastError());
  }
  int count_ = 0;
  ClockReading* readings_ = nullptr;
};

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

Timing time_calls(int calls, const std::function<void(int call, cudaStream_t)>& launch, double sustain) {
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
  const auto warm = std::chrono::steady_clock::now() + std::chrono::duration<double>(sustain);
  while (std::chrono::steady_clock::now() < warm) {
    HEARTH_CUDA_CHECK(cudaGraphLaunch(replay, stream));
    HEARTH_CUDA_CHECK(cudaStreamSynchronize(stream));
  }
  ClockMeter clock;
  clock.begin(stream);
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
  clock.end(stream);
  HEARTH_CUDA_CHECK(cudaStreamSynchronize(stream));
  HEARTH_CUDA_CHECK(cudaGraphExecDestroy(replay));
  HEARTH_CUDA_CHECK(cudaGraphDestroy(graph));
  HEARTH_CUDA_CHECK(cudaEventDestroy(begin));
  HEARTH_CUDA_CHECK(cudaEventDestroy(end));
  HEARTH_CUDA_CHECK(cudaStreamDestroy(stream));
  std::sort(times.begin(), times.end());
  return {times[times.size() / 2] * 1e3 / calls, clock.ghz()};
}

Ceilings measure_ceilings() {
  constexpr int64_t kBytes = int64_t{4} << 30;
  char* data;
  HEARTH_CUDA_CHECK(cudaMalloc(&data, kBytes + 256));
  fill_normal_e4m3(data, kBytes, 60.0f, 1);
  const Timing timing = time_calls(3, [&](int, cudaStream_t stream) {
    read_kernel<<<132 * 4, 512, 0, stream>>>(reinterpret_cast<const uint4*>(data), kBytes / 16,
                                             reinterpret_cast<uint32_t*>(data + kBytes));
    HEARTH_CUDA_CHECK(cudaGetLastError());
  });
  HEARTH_CUDA_CHECK(cudaFree(data));
  Ceilings c;
  c.read_tbs = kBytes / timing.us / 1e6;
  return c;
}

}  // namespace hearth::cuda
