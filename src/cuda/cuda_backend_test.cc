#include "cuda/cuda_backend.h"

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include "cuda/load_rows.h"

namespace hearth {
namespace {

TEST(RowPlace, GateAndUpTakeTurnsOfEight) {
  constexpr int64_t kIntermediate = 40;
  const cuda::RowPlace gate{cuda::RowPlace::kGate}, up{cuda::RowPlace::kUp};
  std::vector<int> used(2 * kIntermediate, 0);
  for (int64_t r = 0; r < kIntermediate; ++r) {
    ++used[static_cast<size_t>(gate.at(r))];
    ++used[static_cast<size_t>(up.at(r))];
    EXPECT_EQ(up.at(r) - gate.at(r), 8);
  }
  EXPECT_EQ(used, std::vector<int>(2 * kIntermediate, 1));
  EXPECT_EQ(gate.at(7), 7);
  EXPECT_EQ(up.at(0), 8);
  EXPECT_EQ(gate.at(8), 16);
}

TEST(RowPlace, PartsAreStacked) {
  const cuda::RowPlace part{cuda::RowPlace::kStacked, 96};
  EXPECT_EQ(part.at(0), 96);
  EXPECT_EQ(part.at(47), 143);
}

TEST(CudaBackend, RefusesFloat32Activations) {
  const auto backend = make_cuda_backend(DType::kF32);
  ASSERT_FALSE(backend.ok());
  EXPECT_EQ(backend.status().code(), Code::kInvalidArgument);
}

TEST(CudaBackend, SaysThatThereIsNoGpu) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0) GTEST_SKIP() << "this machine has a GPU";
  const auto backend = make_cuda_backend(DType::kBF16);
  ASSERT_FALSE(backend.ok());
  EXPECT_EQ(backend.status().code(), Code::kUnavailable);
  int driver = 0;
  cudaDriverGetVersion(&driver);
  const std::string wanted = driver == 0               ? "no NVIDIA driver on this machine"
                             : driver < CUDART_VERSION ? "driver goes up to CUDA"
                                                       : "no usable GPU";
  EXPECT_NE(backend.status().message().find(wanted), std::string::npos) << backend.status().message();
}

}  // namespace
}  // namespace hearth
