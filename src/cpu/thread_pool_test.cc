#include "cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <chrono>

namespace hearth {
namespace {

TEST(ThreadPool, EveryItemOnceInContiguousShares) {
  for (const int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    for (const int64_t items : {1, 2, 5, 7, 8, 1000}) {
      std::vector<std::atomic<int>> seen(static_cast<size_t>(items));
      std::atomic<int64_t> shares{0};
      pool.run(items, [&](int64_t begin, int64_t end, int thread) {
        EXPECT_LT(begin, end);
        EXPECT_LT(thread, threads);
        ++shares;
        for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
      });
      EXPECT_LE(shares, std::min<int64_t>(threads, items));
      for (const auto& count : seen) EXPECT_EQ(count, 1);
    }
    pool.run(0, [&](int64_t, int64_t, int) { ADD_FAILURE(); });
  }
}

// Writes of one run are seen by the next, whether workers spin or sleep in between.
TEST(ThreadPool, RunsFollowEachOther) {
  ThreadPool pool(3);
  std::vector<int64_t> values(64, 0);
  for (int round = 0; round < 2000; ++round) {
    pool.run(64, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) values[static_cast<size_t>(i)] += 1;
    });
    if (round % 500 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    for (const int64_t v : values) ASSERT_EQ(v, round + 1);
  }
}

}  // namespace
}  // namespace hearth
