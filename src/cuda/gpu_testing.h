// For tests of kernels against the CPU's ops: tensors that live on both sides, filled at random or with poison, and
// comparisons. A test program without a GPU says so and exits with code 77.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <deque>
#include <random>
#include <vector>

#include "cuda/check.h"
#include "cuda/device.h"
#include "tensor/tensor.h"

namespace hearth::cuda {

class GpuEnvironment : public ::testing::Environment {
 public:
  void SetUp() override {
    if (const auto found = gpus(); !found.ok()) {
      std::fprintf(stderr, "no GPU to test on: %s\n", found.status().message().c_str());
      std::exit(77);
    }
  }
};
inline ::testing::Environment* const gpu_environment = ::testing::AddGlobalTestEnvironment(new GpuEnvironment);

// One tensor in host memory and one on the device.
struct Both {
  Tensor host, device;
  explicit operator bool() const { return static_cast<bool>(host); }
  void upload() const {
    HEARTH_CUDA_CHECK(cudaMemcpy(device.data, host.data, static_cast<size_t>(host.bytes()), cudaMemcpyHostToDevice));
  }
};

inline float element(const Tensor& t, int64_t i) {
  switch (t.dtype) {
    case DType::kF32: return t.as<float>()[i];
    case DType::kF16: return to_float(t.as<F16>()[i]);
    case DType::kBF16: return to_float(t.as<BF16>()[i]);
    case DType::kE4M3: return to_float(t.as<E4M3>()[i]);
    default: HEARTH_CHECK(false);
  }
}
inline void set_element(const Tensor& t, int64_t i, float value) {
  switch (t.dtype) {
    case DType::kF32: t.as<float>()[i] = value; return;
    case DType::kF16: t.as<F16>()[i] = to_f16(value); return;
    case DType::kBF16: t.as<BF16>()[i] = to_bf16(value); return;
    case DType::kE4M3: t.as<E4M3>()[i] = to_e4m3(value); return;
    default: HEARTH_CHECK(false);
  }
}

// Owns the tensors of one case.
class Case {
 public:
  explicit Case(uint64_t seed) : random_(seed) {}
  ~Case() {
    for (void* p : device_) cudaFree(p);
  }
  Case(const Case&) = delete;
  Case& operator=(const Case&) = delete;

  // Every byte 0xFF: NaN, or -1.
  Both poison(DType dtype, Shape shape) {
    Both out;
    auto& bytes = host_.emplace_back(static_cast<size_t>(shape.elements() * dtype_size(dtype)), 0xFF);
    out.host = out.device = {bytes.data(), dtype, shape};
    HEARTH_CUDA_CHECK(cudaMalloc(&out.device.data, std::max<size_t>(bytes.size(), 16)));
    device_.push_back(out.device.data);
    out.upload();
    return out;
  }
  // Normal, with now and then a value 20 times as large, as activations have.
  Both normal(DType dtype, Shape shape, float deviation = 1.0f) {
    Both out = poison(dtype, shape);
    std::normal_distribution<float> draw(0.0f, deviation);
    for (int64_t i = 0; i < shape.elements(); ++i) {
      set_element(out.host, i, draw(random_) * (random_() % 251 == 0 ? 20.0f : 1.0f));
    }
    out.upload();
    return out;
  }
  template <typename T, typename F>
  Both fill(DType dtype, Shape shape, F value) {
    Both out = poison(dtype, shape);
    for (int64_t i = 0; i < shape.elements(); ++i) out.host.as<T>()[i] = static_cast<T>(value(i));
    out.upload();
    return out;
  }
  int64_t below(int64_t n) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(n)); }
  float uniform(float low, float high) { return std::uniform_real_distribution<float>(low, high)(random_); }
  std::mt19937_64& random() { return random_; }

 private:
  std::mt19937_64 random_;
  std::deque<std::vector<uint8_t>> host_;
  std::vector<void*> device_;
};

// The device's tensor, in host memory.
struct Fetched {
  std::vector<uint8_t> bytes;
  Tensor tensor;
};
inline Fetched fetch(const Tensor& device) {
  Fetched out{std::vector<uint8_t>(static_cast<size_t>(device.bytes())), device};
  HEARTH_CUDA_CHECK(cudaDeviceSynchronize());
  HEARTH_CUDA_CHECK(cudaMemcpy(out.bytes.data(), device.data, out.bytes.size(), cudaMemcpyDeviceToHost));
  out.tensor.data = out.bytes.data();
  return out;
}

// The first `rows` rows have the same bits (all of them by default).
inline void expect_same_bits(const Tensor& expected, const Tensor& device, const char* what, int64_t rows = -1) {
  const Fetched got = fetch(device);
  const int64_t row_bytes = expected.bytes() / std::max<int64_t>(expected.dim(0), 1);
  const int64_t bytes = rows < 0 ? expected.bytes() : rows * row_bytes;
  int64_t different = 0, first = -1;
  for (int64_t i = 0; i < bytes; ++i) {
    if (got.bytes[static_cast<size_t>(i)] == static_cast<const uint8_t*>(expected.data)[i]) continue;
    if (different++ == 0) first = i;
  }
  EXPECT_EQ(different, 0) << what << ": " << different << " of " << bytes << " bytes differ, the first at row "
                          << first / std::max<int64_t>(row_bytes, 1) << " byte " << first % row_bytes;
}
inline void expect_same_bits(const Both& both, const char* what, int64_t rows = -1) {
  expect_same_bits(both.host, both.device, what, rows);
}

// |difference| <= relative * |expected| + absolute, elementwise over the first `rows` rows; NaN never passes.
inline void expect_close(const Both& both, const char* what, double relative, double absolute, int64_t rows = -1) {
  const Fetched got = fetch(both.device);
  const Tensor& expected = both.host;
  const int64_t columns = expected.shape.elements() / std::max<int64_t>(expected.dim(0), 1);
  const int64_t n = (rows < 0 ? expected.dim(0) : rows) * columns;
  int64_t bad = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double want = element(expected, i), have = element(got.tensor, i);
    if (std::abs(want - have) <= relative * std::abs(want) + absolute) continue;
    if (bad++ == 0) {
      ADD_FAILURE() << what << " [" << i / columns << ", " << i % columns << "]: expected " << want << ", got " << have;
    }
  }
  EXPECT_EQ(bad, 0) << what << ": of " << n;
}

}  // namespace hearth::cuda
