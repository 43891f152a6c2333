#include "cuda/bench/bench_kernels.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "cuda/bench/grouped_gemm.h"
#include "cuda/bench/peers.h"

namespace hearth::cuda {
namespace {

TEST(BenchKernels, TilesAreReadOrRefused) {
  const auto tile = parse_tile("2,1,96,0");
  ASSERT_TRUE(tile.ok());
  EXPECT_EQ(*tile, (GroupedGemmTile{2, 1, 96, 0}));
  for (const char* text :
       {"", "2,1,96", "2,1,96,0,", "2,1,96,0x", "0,1,96,0", "3,1,96,0", "1,1,72,0", "2,3,96,0", "2,1,0,0", "2,1,12,0",
        "2,1,168,0", "2,1,296,0", "2,1,96,1", "2,1,96,-1", "2,1,96,17", "a,b,c,d"}) {
    EXPECT_EQ(parse_tile(text).status().code(), Code::kInvalidArgument) << text;
  }
  EXPECT_EQ(bench_kernels({.tiles = {"none"}}).status().code(), Code::kInvalidArgument);
}

TEST(BenchKernels, RoutingGivesEveryChoiceARow) {
  for (const int tokens : {1, 32, 1000}) {
    const std::vector<int> even = random_routing(tokens, 8, 2, 1), skewed = skewed_routing(tokens, 8, 1);
    EXPECT_EQ(std::accumulate(even.begin(), even.end(), 0), 2 * tokens);
    EXPECT_EQ(std::accumulate(skewed.begin(), skewed.end(), 0), 2 * tokens);
    ASSERT_EQ(skewed.size(), 8u);
    EXPECT_EQ(skewed[0], tokens);
    EXPECT_EQ(skewed[6] + skewed[7], 0);
  }
}

// With a python3 of our own in the path.
class Peers : public testing::Test {
 protected:
  Peers() : path_(std::getenv("PATH")) {
    std::filesystem::create_directory(folder_);
    setenv("PATH", cat(folder_, ":", path_).c_str(), 1);
  }
  ~Peers() override {
    setenv("PATH", path_.c_str(), 1);
    std::filesystem::remove_all(folder_);
  }
  void python(const std::string& script) {
    std::ofstream(folder_ + "/python3") << "#!/bin/sh\n" << script;
    std::filesystem::permissions(folder_ + "/python3", std::filesystem::perms::owner_all);
  }
  const std::string path_, folder_ = testing::TempDir() + "hearth_peers_test_" + std::to_string(getpid());
};

TEST_F(Peers, AreReadCaseByCase) {
  python(R"([ "$1" = -c ] && echo "$2" | grep -q _scaled_grouped_mm || exit 1
    [ "$3 $4" = '[{"n":1},{"n":2},{"n":3}] 0.500000' ] || exit 1
    echo '{"peer": "cublas", "us": 2.5}'; echo null; echo '{"peer": "other", "us": 3}')");
  const auto peers = measure_peers({{{"n", 1}}, {{"n", 2}}, {{"n", 3}}}, 0.5);
  ASSERT_TRUE(peers.ok());
  ASSERT_EQ(peers->size(), 3u);
  ASSERT_TRUE(peers->at(0) && !peers->at(1) && peers->at(2));
  EXPECT_EQ(peers->at(0)->name, "cublas");
  EXPECT_EQ(peers->at(0)->us, 2.5);
  EXPECT_EQ(peers->at(2)->name, "other");
}

TEST_F(Peers, MayBeMissing) {
  python("exit 1");
  const auto peers = measure_peers({{{"n", 1}}, {{"n", 2}}});
  ASSERT_TRUE(peers.ok());
  EXPECT_EQ(peers->size(), 2u);
  EXPECT_FALSE(peers->at(0) || peers->at(1));
}

TEST_F(Peers, OddLinesAreRefused) {
  for (const char* line : {"nonsense", "{\"us\": 1}", "{\"peer\": 1, \"us\": 1}", "{\"peer\": \"a\", \"us\": 0}"}) {
    python(cat("echo '", line, "'"));
    EXPECT_EQ(measure_peers({{{"n", 1}}}).status().code(), Code::kInternal) << line;
  }
}

}  // namespace
}  // namespace hearth::cuda
