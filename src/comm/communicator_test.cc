#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <thread>

#include "comm/communicator.h"

namespace hearth {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Values whose sum depends on the order.
std::vector<float> values_of(int rank, int64_t n) {
  std::mt19937 random(static_cast<unsigned>(rank));
  std::uniform_real_distribution<float> exponent(-12, 12);
  std::vector<float> out(static_cast<size_t>(n));
  for (float& x : out) x = std::exp2(exponent(random)) * (random() % 2 ? 1.0f : -1.0f);
  return out;
}

class Ranks : public testing::TestWithParam<int> {};

TEST_P(Ranks, AllReduceSumsInRankOrderOnEveryRank) {
  const int size = GetParam();
  const auto comm = make_host_communicators(size, seconds(60));
  for (const int64_t n : {1, 3, 511, 512, 5000}) {
    std::vector<std::vector<float>> data;
    for (int r = 0; r < size; ++r) data.push_back(values_of(r, n));
    std::vector<float> expected = data[0];
    for (int r = 1; r < size; ++r) {
      for (size_t i = 0; i < expected.size(); ++i) expected[i] += data[static_cast<size_t>(r)][i];
    }
    const Status status = run_ranks(size, [&](int r) {
      EXPECT_EQ(comm[static_cast<size_t>(r)]->shard(), (Shard{r, size}));
      return comm[static_cast<size_t>(r)]->all_reduce({data[static_cast<size_t>(r)].data(), DType::kF32, {n}});
    });
    ASSERT_TRUE(status.ok()) << status.message();
    for (const auto& found : data) EXPECT_EQ(found, expected);
  }
}

TEST_P(Ranks, AllReduceOf16BitRoundsOnce) {
  const int size = GetParam();
  const auto comm = make_host_communicators(size, seconds(60));
  constexpr int64_t kCount = 777;
  std::vector<std::vector<BF16>> data(static_cast<size_t>(size));
  std::vector<float> sums(kCount);
  for (int r = 0; r < size; ++r) {
    for (const float x : values_of(r, kCount)) data[static_cast<size_t>(r)].push_back(to_bf16(x));
    for (size_t i = 0; i < kCount; ++i) sums[i] += to_float(data[static_cast<size_t>(r)][i]);
  }
  ASSERT_TRUE(
      run_ranks(size, [&](int r) {
        return comm[static_cast<size_t>(r)]->all_reduce({data[static_cast<size_t>(r)].data(), DType::kBF16, {kCount}});
      }).ok());
  for (const auto& found : data) {
    for (size_t i = 0; i < kCount; ++i) EXPECT_EQ(found[i].bits, to_bf16(sums[i]).bits);
  }
}

// Parts of different widths.
TEST_P(Ranks, AllGatherPutsPartsSideBySide) {
  const int size = GetParam();
  const auto comm = make_host_communicators(size, seconds(60));
  constexpr int64_t kRows = 3, kColumns = 11;
  const auto value = [](int64_t row, int64_t column) { return static_cast<int32_t>(100 * row + column); };
  const Status status = run_ranks(size, [&](int r) -> Status {
    const Range mine = Shard{r, size}.part(kColumns);
    std::vector<int32_t> part, out(kRows * kColumns);
    for (int64_t row = 0; row < kRows; ++row) {
      for (int64_t c = mine.begin; c < mine.end; ++c) part.push_back(value(row, c));
    }
    HEARTH_TRY(comm[static_cast<size_t>(r)]->all_gather({part.data(), DType::kI32, {kRows, mine.size()}},
                                                        {out.data(), DType::kI32, {kRows, kColumns}}));
    for (int64_t i = 0; i < kRows * kColumns; ++i) EXPECT_EQ(out[i], value(i / kColumns, i % kColumns));
    return {};
  });
  EXPECT_TRUE(status.ok()) << status.message();
}

// Calls behind one another, the ranks in no step.
TEST_P(Ranks, ManyCallsOfRanksAtTheirOwnSpeed) {
  const int size = GetParam();
  const auto comm = make_host_communicators(size, seconds(60));
  const Status status = run_ranks(size, [&](int r) -> Status {
    std::mt19937 random(static_cast<unsigned>(r));
    for (int call = 0; call < 300; ++call) {
      if (random() % 16 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 300));
      std::vector<float> data(5, static_cast<float>(call + r));
      HEARTH_TRY(comm[static_cast<size_t>(r)]->all_reduce({data.data(), DType::kF32, {5}}));
      const auto expected = static_cast<float>(size * call + size * (size - 1) / 2);
      for (const float x : data) {
        if (x != expected) return internal_error("call ", call, ": expected ", expected, ", found ", x);
      }
    }
    return {};
  });
  EXPECT_TRUE(status.ok()) << status.message();
}

INSTANTIATE_TEST_SUITE_P(All, Ranks, testing::Values(1, 2, 3, 4, 8));

TEST(Communicator, ARankThatDoesNotComeFailsTheCallOnEveryOther) {
  const auto comm = make_host_communicators(3, milliseconds(50));
  std::vector<Status> results(3);
  (void)run_ranks(3, [&](int r) {
    std::vector<float> data(8);
    if (r != 1)
      results[static_cast<size_t>(r)] = comm[static_cast<size_t>(r)]->all_reduce({data.data(), DType::kF32, {8}});
    return Status();
  });
  for (const size_t r : {0, 2}) {
    EXPECT_EQ(results[r].code(), Code::kInternal);
    EXPECT_EQ(results[r].message(), "rank 1 of 3 did not come to the others within 0.05 s");
  }
  // It comes later: too late, at once.
  std::vector<float> data(8);
  EXPECT_EQ(comm[1]->all_reduce({data.data(), DType::kF32, {8}}).message(), results[0].message());
  EXPECT_EQ(comm[1]->status().message(), results[0].message());
}

TEST(Communicator, ARankThatFailsEndsTheOthersWait) {
  const auto comm = make_host_communicators(2, seconds(600));
  Status waiting;
  const Status status = run_ranks(2, [&](int r) {
    float x = 1;
    if (r == 0) return waiting = comm[0]->all_reduce({&x, DType::kF32, {1}});
    std::this_thread::sleep_for(milliseconds(20));
    comm[1]->fail(internal_error("out of order"));
    return Status();
  });
  EXPECT_EQ(waiting.message(), "out of order");
  EXPECT_EQ(status.message(), "out of order");
}

TEST(Communicator, ShapesThatDifferFailOnEveryRank) {
  const auto comm = make_host_communicators(2, seconds(60));
  std::vector<Status> results(2);
  (void)run_ranks(2, [&](int r) {
    std::vector<float> data(8);
    return results[static_cast<size_t>(r)] =
               comm[static_cast<size_t>(r)]->all_reduce({data.data(), DType::kF32, {4 + r}});
  });
  for (const Status& result : results) EXPECT_EQ(result.code(), Code::kInternal);
}

TEST(Shard, PartsCoverEverythingOnce) {
  for (const int size : {1, 2, 3, 4, 8}) {
    for (const int64_t count : {8, 9, 31, 32000}) {
      int64_t end = 0;
      for (int rank = 0; rank < size; ++rank) {
        const Range part = Shard{rank, size}.part(count);
        EXPECT_EQ(part.begin, end);
        EXPECT_GT(part.size(), 0);
        end = part.end;
      }
      EXPECT_EQ(end, count);
    }
  }
  // Fewer things than ranks.
  EXPECT_EQ((Shard{0, 4}.part(2)), (Range{0, 1}));
  EXPECT_EQ((Shard{1, 4}.part(2)), (Range{0, 1}));
  EXPECT_EQ((Shard{3, 4}.part(2)), (Range{1, 2}));
}

}  // namespace
}  // namespace hearth
