#include "server/call_queue.h"

#include <gtest/gtest.h>

#include <thread>

namespace hearth {
namespace {

using std::chrono::milliseconds;

void push(CallQueue<int>& queue, int value, bool large) {
  EXPECT_TRUE(queue.try_push(std::make_unique<int>(value), large));
}

TEST(CallQueue, SmallCallsDoNotWaitBehindLargeOnes) {
  CallQueue<int> queue(10);
  push(queue, 1, true);
  push(queue, 2, true);
  push(queue, 3, false);
  EXPECT_EQ(*queue.pop(false), 3);
  EXPECT_EQ(*queue.pop(true), 1);
  push(queue, 4, false);
  EXPECT_EQ(*queue.pop(true), 2);  // nor do large ones behind small ones
  EXPECT_EQ(*queue.pop(true), 4);
}

TEST(CallQueue, IsBoundedAndCloses) {
  CallQueue<int> queue(2);
  push(queue, 1, true);
  push(queue, 2, false);
  auto third = std::make_unique<int>(3);
  EXPECT_FALSE(queue.try_push(std::move(third), false));
  EXPECT_EQ(*third, 3);
  EXPECT_EQ(queue.close().size(), 2u);
  EXPECT_EQ(queue.pop(true), nullptr);
  EXPECT_FALSE(queue.try_push(std::move(third), false));
}

TEST(CallQueue, KnowsWhenAllIsDone) {
  CallQueue<int> queue(2);
  EXPECT_TRUE(queue.wait_until_idle(milliseconds(0)));
  push(queue, 1, true);
  EXPECT_FALSE(queue.wait_until_idle(milliseconds(1)));
  std::thread worker([&] {
    queue.pop(true);
    std::this_thread::sleep_for(milliseconds(20));
    queue.done();
  });
  EXPECT_TRUE(queue.wait_until_idle(std::chrono::seconds(10)));
  worker.join();
}

}  // namespace
}  // namespace hearth
