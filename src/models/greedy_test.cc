// Real models: greedy text on 20 prompts, and that it does not depend on the steps.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "cpu/cpu_backend.h"
#include "models/registry.h"
#include "models/single_sequence.h"
#include "weights/mapped_file.h"

namespace hearth {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr size_t kPrompts = 1;  // a fiftieth of the speed
#else
constexpr size_t kPrompts = 20;
#endif

struct RealModel {
  const char *name, *golden, *file, *fetch;
  int64_t vocab;
  std::vector<int32_t> eos;
};
void PrintTo(const RealModel& m, std::ostream* out) { *out << m.name; }

class Greedy : public testing::TestWithParam<RealModel> {};

// tools/make_greedy_goldens.py: transformers on the same dequantized weights, in float32.
TEST_P(Greedy, ContinuationsEqualTransformers) {
  const RealModel& model = GetParam();
  if (!std::filesystem::exists(model.file)) GTEST_SKIP() << model.fetch << " fetches " << model.file;
  const auto text = read_text_file(model.golden);
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
  auto loaded = load_model(model.file, *backend, {.max_model_len = 256}, progress);
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  EXPECT_EQ(last_progress, total);
  EXPECT_EQ(loaded->model->vocab_size(), model.vocab);
  EXPECT_EQ(loaded->opened.config.eos, model.eos);
  auto sequence = SingleSequence::create(*backend, *loaded->model, 256, 512, 64);
  ASSERT_TRUE(sequence.ok());

  const auto best = [&] {
    std::vector<int32_t> out;
    const std::vector<float> logits = sequence->download_logits();
    for (auto row = logits.begin(); row < logits.end(); row += model.vocab) {
      out.push_back(static_cast<int32_t>(std::max_element(row, row + model.vocab) - row));
    }
    return out;
  };
  ASSERT_EQ((*golden)["cases"].size(), 20u);
  for (size_t i = 0; i < kPrompts; ++i) {
    const Json& entry = (*golden)["cases"][i];
    const auto prompt = entry["prompt"].get<std::vector<int32_t>>();
    const auto expected = entry["continuation"].get<std::vector<int32_t>>();
    ASSERT_EQ(expected.size(), 64u);
    // All generated tokens in one step: to the bit what one step each computes, so the best at every position is what
    // greedy decoding would choose as long as it has chosen what is expected so far.
    sequence->clear();
    sequence->append(prompt, true, 1);
    std::vector<int32_t> found = best();
    sequence->append({expected.data(), 63}, false, 63);
    for (const int32_t token : best()) found.push_back(token);
    EXPECT_EQ(found, expected) << "a prompt of " << prompt.size() << " tokens";
    if (i > 0) continue;
    const std::vector<float> together = sequence->download_logits();
    std::vector<float> one_by_one;
    sequence->clear();
    sequence->append(prompt, true, 1);
    for (size_t t = 0; t < 63; ++t) {
      sequence->append({expected.data() + t, 1}, false, 1);
      const std::vector<float> logits = sequence->download_logits();
      one_by_one.insert(one_by_one.end(), logits.begin(), logits.end());
    }
    EXPECT_EQ(one_by_one, together);
  }
}

INSTANTIATE_TEST_SUITE_P(All, Greedy,
                         testing::Values(RealModel{"SmolLM2",
                                                   "tests/golden/models/smollm2_greedy.json",
                                                   ".cache/models/smollm2-135m-instruct.gguf",
                                                   "tools/fetch_test_models.sh",
                                                   49152,
                                                   {2}},
                                         RealModel{"Qwen25Coder",
                                                   "tests/golden/models/qwen2.5_coder_greedy.json",
                                                   ".cache/models/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
                                                   "tools/fetch_qwen_coder.sh",
                                                   151936,
                                                   {151645}}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace hearth
