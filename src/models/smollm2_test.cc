#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "cpu/cpu_backend.h"
#include "models/registry.h"
#include "models/single_sequence.h"
#include "weights/mapped_file.h"

namespace hearth {
namespace {

// tools/make_smollm2_golden.py: transformers on the same dequantized weights, in float32.
TEST(SmolLm2, GreedyContinuationsEqualTransformers) {
  const auto text = read_text_file("tests/golden/models/smollm2_greedy.json", {});
  ASSERT_TRUE(text.ok()) << text.status().message();
  const auto golden = parse_json(*text);
  ASSERT_TRUE(golden.ok());

  const auto backend = make_cpu_backend(DType::kF32, 0);
  int64_t last_progress = 0, total = 0;
  const auto progress = [&](int64_t loaded, int64_t all) {
    EXPECT_GE(loaded, last_progress);
    last_progress = loaded;
    total = all;
  };
  auto loaded = load_model(".cache/models/smollm2-135m-instruct.gguf", *backend, {.max_model_len = 256}, progress);
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  EXPECT_EQ(last_progress, total);
  EXPECT_EQ(loaded->model->vocab_size(), 49152);
  EXPECT_EQ(loaded->opened.config.eos, std::vector<int32_t>{2});
  auto sequence = SingleSequence::create(*backend, *loaded->model, 256, 512, 1);
  ASSERT_TRUE(sequence.ok());

  const auto best = [&] {
    const std::vector<float> logits = sequence->download_logits();
    return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  };
  ASSERT_EQ((*golden)["cases"].size(), 20u);
  for (const Json& entry : (*golden)["cases"]) {
    const auto prompt = entry["prompt"].get<std::vector<int32_t>>();
    const auto expected = entry["continuation"].get<std::vector<int32_t>>();
    ASSERT_EQ(expected.size(), 64u);
    sequence->clear();
    sequence->append(prompt, true, 1);
    std::vector<int32_t> found{best()};
    while (found.size() < expected.size()) {
      sequence->append({&found.back(), 1}, false, 1);
      found.push_back(best());
    }
    EXPECT_EQ(found, expected) << "a prompt of " << prompt.size() << " tokens";
  }
}

}  // namespace
}  // namespace hearth
