// What a kernel benchmark returns: one row a measurement, and the timing all of them share.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace hearth::cuda {

struct BenchRow {
  std::string kernel, shape;
  double us = 0, tflops = 0, tbs = 0, share_of_floor = 0;
  double ghz = 0;  // the multiprocessors' clock meanwhile
};

// What the floors are counted with. The read bandwidth is measured, the arithmetic rates are cuBLASLt's best on random
// data on this chip (docs/kernels/).
struct Ceilings {
  double read_tbs = 0, fp8_tflops = 1350, bf16_tflops = 720;
};
Ceilings measure_ceilings();

struct Timing {
  double us = 0;   // median of one call
  double ghz = 0;  // the multiprocessors' clock over all measured replays
};

// One of `calls` launches: a graph of all of them, replayed between events. It is replayed for `sustain` seconds before
// any replay counts: half a second brings a board to the power, and so to the clock, that it keeps in a busy server.
Timing time_calls(int calls, const std::function<void(int call, cudaStream_t)>& launch, double sustain = 0);

// Random values with the spread of real ones, in place: normal times `deviation`.
void fill_normal_e4m3(void* data, int64_t size, float deviation, uint32_t seed);
void fill_normal_bf16(void* data, int64_t size, float deviation, uint32_t seed);
void fill_f32(float* data, int64_t size, float value);

}  // namespace hearth::cuda
