#include "bench/dataset.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

namespace hearth {
namespace {

class Dataset : public testing::Test {
 protected:
  Result<std::vector<Prompt>> read(const std::string& text) {
    const std::string path = testing::TempDir() + "sharegpt.json";
    std::ofstream(path) << text;
    auto out = read_sharegpt(path, 100);
    std::remove(path.c_str());
    return out;
  }
};

TEST_F(Dataset, KeepsFirstExchangesOfUsableLength) {
  const std::string words(80, 'a');
  const auto prompts =
      read(cat(R"([{"conversations":[{"from":"human","value":")", words, R"("},{"from":"gpt","value":")", words, words,
               R"("}]},{"conversations":[{"from":"human","value":"hi"},{"from":"gpt","value":"yo"}]},)",
               R"({"conversations":[{"from":"gpt","value":"x"}]},{"id":3},7])"));
  ASSERT_TRUE(prompts.ok()) << prompts.status().message();
  ASSERT_EQ(prompts->size(), 1u);
  EXPECT_EQ((*prompts)[0].text, words);
  EXPECT_EQ((*prompts)[0].output_tokens, 40);
  EXPECT_EQ(tokens_of((*prompts)[0]), 20);
}

TEST_F(Dataset, RefusesOtherFiles) {
  EXPECT_FALSE(read("{}").ok());
  EXPECT_FALSE(read("[]").ok());
  EXPECT_FALSE(read("[1").ok());
  EXPECT_EQ(read_sharegpt("/nonexistent", 10).status().code(), Code::kNotFound);
}

}  // namespace
}  // namespace hearth
