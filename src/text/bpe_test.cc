#include "text/bpe.h"

#include <gtest/gtest.h>

namespace hearth {
namespace {

TEST(Bpe, BestRankFirstThenLeftmost) {
  Bpe bpe;
  bpe.add_merge(1, 2, 1, 12);
  bpe.add_merge(2, 3, 0, 23);
  bpe.add_merge(1, 23, 2, 123);
  bpe.add_merge(4, 4, 3, 44);
  std::vector<int32_t> symbols = {1, 2, 3, 1, 2, 4, 4, 4};
  bpe.apply(symbols);
  EXPECT_EQ(symbols, (std::vector<int32_t>{123, 12, 44, 4}));
}

TEST(Bpe, AMillionSymbolsThatAllMerge) {
  Bpe bpe;
  for (int32_t level = 0; level < 20; ++level) bpe.add_merge(level, level, level, level + 1);
  std::vector<int32_t> symbols(1 << 20, 0);
  bpe.apply(symbols);
  EXPECT_EQ(symbols, std::vector<int32_t>{20});
}

}  // namespace
}  // namespace hearth
