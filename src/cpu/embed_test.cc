#include <gtest/gtest.h>

#include "cpu/cpu_backend.h"
#include "cpu/test_tensors.h"

namespace hearth {
namespace {

TEST(Embed, ReadsTokensAndSamplesOfTheStepBefore) {
  const int64_t vocab = 11, hidden = 24;
  for (const DType stored : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const DType act : {DType::kF32, DType::kF16, DType::kBF16}) {
      const OwnedTensor table(stored, {vocab, hidden}, random_values(vocab * hidden, 1));
      const OwnedTensor previous = OwnedTensor::of(std::vector<int32_t>{4, -1, 9});
      const OwnedTensor ids = OwnedTensor::of(std::vector<int32_t>{3, 0, 10, -1, -3, -2});
      const OwnedTensor out(act, {6, hidden});
      make_cpu_backend(act, 2)->ops().embed({ids, previous, table, out});
      const int64_t expected[] = {3, 0, 10, 4, 9, 0};  // a failed sample stands for token 0
      for (int64_t t = 0; t < 6; ++t) {
        for (int64_t i = 0; i < hidden; ++i) {
          EXPECT_EQ(out[t * hidden + i], OwnedTensor(act, {1}, {table[expected[t] * hidden + i]})[0]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace hearth
