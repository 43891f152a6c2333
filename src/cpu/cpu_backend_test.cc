#include "cpu/cpu_backend.h"

#include <gtest/gtest.h>

#include "cpu/test_tensors.h"

namespace hearth {
namespace {

TEST(CpuBackend, MemoryIsAlignedAndRefusedWithTheNumbers) {
  auto backend = make_cpu_backend(DType::kF16, 2);
  EXPECT_EQ(backend->name(), "cpu (2 threads)");
  EXPECT_GT(backend->free_bytes(), 0);
  const Tensor small = backend->allocate("a vector", DType::kE4M3, {3}).value();
  const Tensor large = backend->allocate("a table", DType::kF32, {1000, 1000}).value();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(small.data) % 64, 0u);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(large.data) % 64, 0u);
  EXPECT_TRUE(backend->allocate("nothing", DType::kF32, {0, 8}).value());
  const auto refused = backend->allocate("the KV cache", DType::kF32, {1 << 20, 1 << 20, 16});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), Code::kResourceExhausted);
  EXPECT_NE(refused.status().message().find("the KV cache"), std::string::npos);
  EXPECT_NE(refused.status().message().find("70368744177664"), std::string::npos);
}

TEST(CpuBackend, CopiesAndConverts) {
  auto backend = make_cpu_backend(DType::kBF16, 1);
  const OwnedTensor values(DType::kF16, {5, 7}, random_values(35, 1));
  const Tensor loaded = backend->load("a table", values, DType::kBF16).value();
  ASSERT_EQ(loaded.shape, Tensor(values).shape);
  for (int64_t i = 0; i < 35; ++i) EXPECT_EQ(element(loaded, i), to_float(to_bf16(values[i])));
  const Tensor device = backend->allocate("a copy", DType::kF16, {5, 7}).value();
  const OwnedTensor back(DType::kF16, {5, 7});
  backend->upload(values, device);
  backend->download(device, back);
  backend->synchronize();
  EXPECT_EQ(back.bytes(), values.bytes());
  backend->zero(device);
  for (int64_t i = 0; i < 35; ++i) EXPECT_EQ(element(device, i), 0.0f);
}

}  // namespace
}  // namespace hearth
