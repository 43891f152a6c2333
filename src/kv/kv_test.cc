#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <vector>

#include "kv/block_pool.h"
#include "kv/prefix_index.h"

namespace hearth {
namespace {

using Tokens = std::vector<int32_t>;
constexpr auto kRoot = PrefixIndex::kRoot;

TEST(PrefixIndex, FindsByPredecessorTokensAndPromptCount) {
  PrefixIndex index(8, 4, PrefixMode::kExact);
  const Tokens a{1, 2, 3, 4}, b{5, 6, 7, 8};
  const auto link_a = index.publish(0, kRoot, a, 4);
  const auto link_b = index.publish(1, link_a, b, 2);
  ASSERT_TRUE(index.find(kRoot, a, 4));
  EXPECT_EQ(index.find(kRoot, a, 4)->block, 0);
  EXPECT_EQ(index.find(link_a, b, 2)->block, 1);
  EXPECT_EQ(index.find(link_a, b, 2)->link, link_b);
  EXPECT_FALSE(index.find(kRoot, a, 3)) << "one of its tokens was generated";
  EXPECT_FALSE(index.find(kRoot, b, 2)) << "other predecessor";
  EXPECT_FALSE(index.find(link_a, Tokens({5, 6, 7, 9}), 2));
  index.check_integrity();
}

TEST(PrefixIndex, FastModeSharesPromptAndGenerated) {
  PrefixIndex index(8, 4, PrefixMode::kFast);
  const Tokens a{1, 2, 3, 4};
  index.publish(3, kRoot, a, 0);
  ASSERT_TRUE(index.find(kRoot, a, 4));
  EXPECT_EQ(index.find(kRoot, a, 4)->block, 3);
}

TEST(PrefixIndex, PublishedTwiceTheFirstStays) {
  PrefixIndex index(8, 2, PrefixMode::kExact);
  const Tokens a{1, 2};
  const auto link = index.publish(0, kRoot, a, 2);
  EXPECT_EQ(index.publish(1, kRoot, a, 2), link);
  EXPECT_FALSE(index.contains(1));
  index.check_integrity();
}

TEST(PrefixIndex, ChildOfAnEvictedBlockIsNeverFoundAgain) {
  PrefixIndex index(8, 2, PrefixMode::kExact);
  const Tokens a{1, 2}, b{3, 4};
  const auto old_link = index.publish(0, kRoot, a, 2);
  index.publish(1, old_link, b, 2);
  index.erase(0);
  EXPECT_FALSE(index.find(kRoot, a, 2));
  const auto new_link = index.publish(0, kRoot, a, 2);  // the same block even
  EXPECT_NE(new_link, old_link);
  EXPECT_FALSE(index.find(new_link, b, 2));
  index.check_integrity();
}

TEST(PrefixIndex, ASaltKeepsPrefixesApart) {
  PrefixIndex index(4, 2, PrefixMode::kExact);
  const Tokens a{1, 2};
  const auto ours = PrefixIndex::root_of("ours"), theirs = PrefixIndex::root_of("theirs");
  EXPECT_EQ(PrefixIndex::root_of(""), kRoot);
  EXPECT_EQ(PrefixIndex::root_of("ours"), ours);
  EXPECT_NE(ours, theirs);
  const auto link = index.publish(0, ours, a, 2);
  EXPECT_EQ(index.find(ours, a, 2)->block, 0);
  EXPECT_FALSE(index.find(theirs, a, 2) || index.find(kRoot, a, 2));
  EXPECT_NE(index.publish(1, theirs, a, 2), link);
  EXPECT_NE(index.publish(2, kRoot, a, 2), link);
  EXPECT_EQ(index.publish(3, ours, a, 2), link);
  index.check_integrity();
}

// What a router would know.
class Heard final : public KvEventSink {
 public:
  void stored(uint64_t link, uint64_t before, std::span<const int32_t> tokens) override {
    EXPECT_TRUE(before == 0 || prefixes.contains(before));
    Tokens prefix = before == 0 ? Tokens() : prefixes[before];
    prefix.insert(prefix.end(), tokens.begin(), tokens.end());
    EXPECT_TRUE(prefixes.emplace(link, prefix).second);
  }
  void removed(uint64_t link) override { EXPECT_EQ(prefixes.erase(link), 1u); }
  void flush() override {}
  bool has(const Tokens& prefix) const {
    return std::ranges::any_of(prefixes, [&](const auto& item) { return item.second == prefix; });
  }

  std::map<uint64_t, Tokens> prefixes;
};

TEST(PrefixIndex, TellsOfTheBlocksThatAnyPromptCanFind) {
  Heard heard;
  PrefixIndex index(8, 2, PrefixMode::kExact, &heard);
  const Tokens a{1, 2}, b{3, 4};
  const auto link = index.publish(0, kRoot, a, 2);
  index.publish(1, kRoot, a, 2);  // there already
  index.publish(2, link, b, 2);
  EXPECT_TRUE(heard.has({1, 2}) && heard.has({1, 2, 3, 4}));
  index.publish(3, link, b, 1);  // one of its tokens was generated
  const auto salted = index.publish(4, PrefixIndex::root_of("salt"), a, 2);
  index.publish(5, salted, b, 2);
  EXPECT_EQ(heard.prefixes.size(), 2u);
  index.erase(5);
  index.erase(3);
  index.erase(0);
  EXPECT_EQ(heard.prefixes.size(), 1u);
  index.publish(6, link, a, 2);  // behind one that is gone: nobody finds it
  EXPECT_EQ(heard.prefixes.size(), 1u);
  index.erase(2);
  index.erase(6);
  EXPECT_TRUE(heard.prefixes.empty());

  Heard fast_heard;
  PrefixIndex fast(4, 2, PrefixMode::kFast, &fast_heard);
  fast.publish(0, kRoot, a, 0);
  EXPECT_TRUE(fast_heard.has({1, 2}));
}

TEST(BlockPool, BlankBlocksGoBeforeCachedOnesAndTheEndOfAPrefixBeforeItsBeginning) {
  PrefixIndex index(4, 1, PrefixMode::kExact);
  BlockPool pool(4, &index);
  const Tokens blocks{pool.allocate(), pool.allocate(), pool.allocate()};
  auto link = kRoot;
  for (int32_t i = 0; i < 3; ++i) link = index.publish(blocks[i], link, Tokens{i}, 1);
  pool.release_all(blocks);
  EXPECT_EQ(pool.available(), 4);
  EXPECT_EQ(pool.used(), 0);
  pool.check_integrity();

  const int32_t blank = pool.allocate();
  EXPECT_EQ(std::count(blocks.begin(), blocks.end(), blank), 0);
  EXPECT_TRUE(index.contains(blocks[2]));
  EXPECT_EQ(pool.allocate(), blocks[2]);
  EXPECT_FALSE(index.contains(blocks[2])) << "its contents are gone";

  pool.acquire(blocks[0]);  // used again, so the next to go is the other
  EXPECT_EQ(pool.allocate(), blocks[1]);
  EXPECT_EQ(pool.available(), 0);
  pool.check_integrity();
}

TEST(BlockPool, SharedBlockStaysUntilItsLastUser) {
  BlockPool pool(2, nullptr);
  const int32_t block = pool.allocate();
  pool.acquire(block);
  EXPECT_EQ(pool.users(block), 2);
  pool.release(block);
  EXPECT_EQ(pool.available(), 1);
  pool.release(block);
  EXPECT_EQ(pool.available(), 2);
  pool.check_integrity();
}

TEST(BlockPoolDeathTest, OurOwnMistakesEndTheProcess) {
  BlockPool pool(1, nullptr);
  const int32_t block = pool.allocate();
  EXPECT_DEATH(pool.allocate(), "available");
  pool.release(block);
  EXPECT_DEATH(pool.release(block), "users_");
}

}  // namespace
}  // namespace hearth
