#include "models/perplexity.h"

#include <gtest/gtest.h>

#include <cstring>

#include "cpu/cpu_backend.h"
#include "models/registry.h"
#include "weights/safetensors.h"

namespace hearth {
namespace {

constexpr const char* kFolder = "tests/golden/models/llama_float32";

TEST(Perplexity, IsTheMeanOfTheGoldenLogits) {
  const auto golden = SafetensorsFile::open(cat(kFolder, "/expected.safetensors"));
  ASSERT_TRUE(golden.ok());
  const Tensor ids = golden->tensors().find("tokens")->second, logits = golden->tensors().find("logits")->second;
  const std::span<const int32_t> tokens(ids.as<int32_t>(), 40);
  double expected = 0;
  for (int64_t i = 0; i + 1 < 40; ++i) {
    const float* row = logits.as<float>() + i * 64;
    double sum = 0;
    for (int64_t j = 0; j < 64; ++j) sum += std::exp(double{row[j]});
    expected += std::log(sum) - row[tokens[i + 1]];
  }

  const auto backend = make_cpu_backend(DType::kF32, 1);
  auto loaded = load_model(kFolder, *backend, {.max_tokens = 16, .max_logits = 16});
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  int reports = 0;
  const auto whole =
      measure_perplexity(*backend, *loaded->model, tokens, 0, 16, [&](const PerplexityResult&) { ++reports; });
  ASSERT_TRUE(whole.ok()) << whole.status().message();
  EXPECT_EQ(whole->scored, 39);
  EXPECT_EQ(reports, 3);
  EXPECT_NEAR(whole->total_nll, expected, 1e-3);
  EXPECT_NEAR(whole->perplexity(), std::exp(expected / 39), 1e-3);
  // In other steps the same to the bit; in windows the first token of each is not scored.
  EXPECT_EQ(measure_perplexity(*backend, *loaded->model, tokens, 0, 7)->total_nll, whole->total_nll);
  const auto windows = measure_perplexity(*backend, *loaded->model, tokens, 13, 5);  // 13, 13, 13 and 1 left out
  EXPECT_EQ(windows->scored, 36);
  ASSERT_EQ(windows->windows.size(), 3u);
  double sum = 0;
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(windows->windows[i].scored, 12);
    sum += windows->windows[i].nll;
    const auto alone = measure_perplexity(*backend, *loaded->model, tokens.subspan(13 * i, 13), 13, 16);
    EXPECT_EQ(alone->total_nll, windows->windows[i].nll);
  }
  EXPECT_NEAR(windows->total_nll, sum, 1e-9);

  EXPECT_FALSE(measure_perplexity(*backend, *loaded->model, tokens.first(1), 0, 16).ok());
  EXPECT_FALSE(measure_perplexity(*backend, *loaded->model, tokens, 129, 16).ok());
  const int32_t beyond[] = {1, 64};
  EXPECT_FALSE(measure_perplexity(*backend, *loaded->model, beyond, 0, 16).ok());
}

}  // namespace
}  // namespace hearth
