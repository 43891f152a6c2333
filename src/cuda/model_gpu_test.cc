// Whole models: logits of SmolLM2, or of the model in test_examples.h's variable, on the GPU against the CPU backend's
// in the same types, in 16 bit and in FP8; and the same bits however a sequence is cut into steps.
#include <gtest/gtest.h>

#include "cpu/cpu_backend.h"
#include "cuda/cuda_backend.h"
#include "cuda/gpu_testing.h"
#include "cuda/test_examples.h"
#include "models/registry.h"
#include "models/single_sequence.h"
#include "models/test_golden.h"
#include "models/test_random_model.h"

namespace hearth {
namespace {

constexpr int64_t kMaxLen = 256, kMostTokens = 256, kMostLogits = 64;

struct Running {
  std::shared_ptr<Backend> backend;
  std::shared_ptr<Model> model;
  std::optional<SingleSequence> sequence;
};
Running start(std::unique_ptr<Backend> backend, bool fp8) {
  ModelOptions options{.max_tokens = kMostTokens, .max_logits = kMostLogits, .max_model_len = kMaxLen};
  if (fp8) options.format = LinearFormat::kQuantize;
  options.fp8_kv_cache = fp8;
  auto loaded = load_model(given_model().value_or(kSmolLm2), *backend, options);
  if (!loaded.ok()) std::fprintf(stderr, "%s\n", loaded.status().message().c_str());
  Running out{std::move(backend), std::move(loaded.value().model), {}};
  auto sequence = SingleSequence::create(*out.backend, *out.model, kMaxLen, kMostTokens, kMostLogits);
  out.sequence.emplace(std::move(sequence).value());
  return out;
}
std::unique_ptr<Backend> gpu(DType act) {
  auto backend = make_cuda_backend(act);
  if (!backend.ok()) std::fprintf(stderr, "%s\n", backend.status().message().c_str());
  return std::move(backend).value();
}

// The logits of a prompt's last token and of every generated one.
std::vector<float> logits_of(SingleSequence& sequence, const Example& e) {
  sequence.clear();
  sequence.append(e.prompt, true, 1);
  std::vector<float> out = sequence.download_logits();
  sequence.append({e.continuation.data(), 63}, false, 63);
  const std::vector<float> rest = sequence.download_logits();
  out.insert(out.end(), rest.begin(), rest.end());
  return out;
}

// How far apart two rows of logits are, a constant for all tokens aside, relative to their spread; and whether they
// name the same best token.
struct Distance {
  double squared = 0, spread = 0;
  int64_t rows = 0, same_best = 0;
  void add(const float* want, const float* got, int64_t n) {
    double mean_want = 0, mean_got = 0;
    for (int64_t i = 0; i < n; ++i) mean_want += want[i], mean_got += got[i];
    mean_want /= static_cast<double>(n), mean_got /= static_cast<double>(n);
    for (int64_t i = 0; i < n; ++i) {
      const double a = want[i] - mean_want, b = got[i] - mean_got;
      squared += (a - b) * (a - b);
      spread += a * a;
    }
    ++rows;
    same_best += std::max_element(want, want + n) - want == std::max_element(got, got + n) - got;
  }
  double relative() const { return std::sqrt(squared / spread); }
};

Distance compare(const char* what, Running want, Running got) {
  const int64_t vocab = want.model->vocab_size();
  Distance distance;
  const std::vector<Example> all = examples();
  for (size_t i = 0; i < all.size(); i += 4) {
    const std::vector<float> a = logits_of(*want.sequence, all[i]), b = logits_of(*got.sequence, all[i]);
    HEARTH_CHECK(a.size() == b.size());
    for (size_t at = 0; at < a.size(); at += static_cast<size_t>(vocab)) distance.add(&a[at], &b[at], vocab);
  }
  std::printf("%s: relative error %.5f, the best token equal in %ld of %ld rows\n", what, distance.relative(),
              static_cast<long>(distance.same_best), static_cast<long>(distance.rows));
  return distance;
}

void expect_close(const Distance& distance, double bound) {
  EXPECT_LT(distance.relative(), bound);
  EXPECT_GE(distance.same_best, distance.rows * 9 / 10);
}

TEST(ModelGpu, Float16LogitsAreTheCpus) {
  const DType act = DType::kF16;
  expect_close(compare("float16", start(make_cpu_backend(act, 0), false), start(gpu(act), false)), 0.01);
}
TEST(ModelGpu, Bfloat16LogitsAreTheCpus) {
  const DType act = DType::kBF16;
  expect_close(compare("bfloat16", start(make_cpu_backend(act, 0), false), start(gpu(act), false)), 0.03);
}

// What is rounded a little otherwise ends on the other side of a step of e4m3 here and there, and how far the logits
// then move is the model's: the CPU's own FP8 with another 16-bit type between the products says how far.
TEST(ModelGpu, Fp8LogitsAreTheCpus) {
  const auto cpu = [](DType act) { return start(make_cpu_backend(act, 0), true); };
  const Distance rounding = compare("fp8, float16 beside bfloat16 on the CPU", cpu(DType::kBF16), cpu(DType::kF16));
  EXPECT_LT(rounding.relative(), 0.2);  // or a bound made of it says nothing
  expect_close(compare("fp8", cpu(DType::kBF16), start(gpu(DType::kBF16), true)), 1.5 * rounding.relative());
}

// gpt-oss in a small shape: sinks, windows of 5, biases, experts from MXFP4, with both kinds of cache. The bound is
// made as above. The same bits however the sequence is cut into steps.
TEST(ModelGpu, SmallGptOssLogitsAreTheCpus) {
  constexpr size_t kPrompt = 11;
  for (const bool fp8_kv : {false, true}) {
    const auto open = [&](std::unique_ptr<Backend> backend) {
      auto golden = Golden::open("mxfp4_gpt_oss_wide", std::move(backend), LinearFormat::kAsStored, fp8_kv);
      if (!golden.ok()) std::fprintf(stderr, "%s\n", golden.status().message().c_str());
      return std::move(golden).value();
    };
    Golden want = open(make_cpu_backend(DType::kBF16, 0)), other = open(make_cpu_backend(DType::kF16, 0)),
           found = open(gpu(DType::kBF16));
    const auto vocab = static_cast<size_t>(want.loaded.model->vocab_size());
    const std::vector<float> expected = want.run({kPrompt, 1}, kPrompt), rounded = other.run({kPrompt, 1}, kPrompt),
                             got = found.run({kPrompt, 1}, kPrompt);
    Distance rounding, distance;
    for (size_t at = 0; at < expected.size(); at += vocab) {
      rounding.add(&expected[at], &rounded[at], static_cast<int64_t>(vocab));
      distance.add(&expected[at], &got[at], static_cast<int64_t>(vocab));
    }
    std::printf("gpt-oss, fp8 cache %d: relative error %.5f, of 16-bit types on the CPU %.5f\n", fp8_kv,
                distance.relative(), rounding.relative());
    EXPECT_LT(rounding.relative(), 0.2);                               // or a bound made of it says nothing
    EXPECT_LT(distance.relative(), 0.01 + 1.5 * rounding.relative());  // kernels round to 16 bit inside, too
    EXPECT_EQ(found.run({kPrompt, 29}, kPrompt), got);
    EXPECT_EQ(found.run({5, 6, 13, 16}, kPrompt), got);
  }
}

// Families whose goldens are too narrow for the kernels: random weights, GPU against CPU. The bound is made as above.
struct Family {
  const char *name, *config;
};
// Groups of 12, a dense first layer, a shared expert, sigmoids with a correction, half of a head rotated.
constexpr Family kGlm{"glm4_moe", R"({"model_type": "glm4_moe", "hidden_size": 256, "intermediate_size": 448,
    "num_hidden_layers": 3, "num_attention_heads": 24, "num_key_value_heads": 2, "head_dim": 128,
    "attention_bias": true, "n_routed_experts": 20, "num_experts_per_tok": 3, "moe_intermediate_size": 192,
    "n_shared_experts": 1, "routed_scaling_factor": 1.75, "first_k_dense_replace": 1, "vocab_size": 1003,
    "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "partial_rotary_factor": 0.5)"};
constexpr Family kGlmNorms{"glm4_moe with norms", R"({"model_type": "glm4_moe", "hidden_size": 256,
    "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 16, "num_key_value_heads": 1,
    "head_dim": 64, "use_qk_norm": true, "norm_topk_prob": false, "n_routed_experts": 6, "num_experts_per_tok": 2,
    "moe_intermediate_size": 192, "n_shared_experts": 2, "routed_scaling_factor": 2.5, "first_k_dense_replace": 0,
    "vocab_size": 320, "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "partial_rotary_factor": 0.5)"};
constexpr Family kMinimax{"minimax_m2", R"({"model_type": "minimax_m2", "hidden_size": 256, "intermediate_size": 192,
    "num_hidden_layers": 2, "num_attention_heads": 12, "num_key_value_heads": 2, "head_dim": 128, "rotary_dim": 64,
    "num_local_experts": 150, "num_experts_per_tok": 4, "vocab_size": 320, "max_position_embeddings": 128,
    "rms_norm_eps": 1e-6)"};
constexpr Family kQwen2Moe{"qwen2_moe", R"({"model_type": "qwen2_moe", "hidden_size": 896, "intermediate_size": 448,
    "num_hidden_layers": 3, "num_attention_heads": 14, "num_key_value_heads": 2, "num_experts": 6,
    "num_experts_per_tok": 3, "moe_intermediate_size": 192, "shared_expert_intermediate_size": 320,
    "mlp_only_layers": [1], "vocab_size": 997, "max_position_embeddings": 128, "rms_norm_eps": 1e-6)"};

enum class Weights { kPlain, kChannels, kBlocks };

void check_family(const Family& family, Weights weights) {
  constexpr size_t kTokens = 60, kPrompt = 33;
  const bool fp8 = weights != Weights::kPlain;
  const std::string config =
      cat(family.config, weights == Weights::kBlocks
                             ? R"(, "quantization_config": {"quant_method": "fp8", "activation_scheme": "dynamic",
                                   "weight_block_size": [128, 128]}})"
                             : "}");
  const auto open = [&](std::unique_ptr<Backend> backend) {
    const ModelOptions options{
        .format = weights == Weights::kChannels ? LinearFormat::kQuantize : LinearFormat::kAsStored,
        .fp8_kv_cache = fp8,
        .max_tokens = 64,
        .max_logits = 64};
    auto loaded = load_model(open_random_model(config).value(), *backend, options);
    if (!loaded.ok()) std::fprintf(stderr, "%s\n", loaded.status().message().c_str());
    Running out{std::move(backend), std::move(loaded.value().model), {}};
    out.sequence.emplace(SingleSequence::create(*out.backend, *out.model, 128, 64, 64).value());
    return out;
  };
  std::vector<int32_t> tokens;
  const auto run = [&](Running& running, std::vector<size_t> chunks) {
    if (tokens.empty()) {
      for (size_t i = 0; i < kTokens; ++i)
        tokens.push_back(static_cast<int32_t>(i * i * 7 % static_cast<size_t>(running.model->vocab_size())));
    }
    running.sequence->clear();
    std::vector<float> out;
    for (size_t begin = 0, i = 0; begin < kTokens; i = std::min(i + 1, chunks.size() - 1)) {
      const size_t n = std::min(chunks[i], kTokens - begin);
      running.sequence->append({tokens.data() + begin, n}, begin < kPrompt, static_cast<int64_t>(n));
      const std::vector<float> part = running.sequence->download_logits();
      out.insert(out.end(), part.begin(), part.end());
      begin += n;
    }
    return out;
  };
  Running want = open(make_cpu_backend(DType::kBF16, 0)), other = open(make_cpu_backend(DType::kF16, 0)),
          found = open(gpu(DType::kBF16));
  const std::vector<float> expected = run(want, {kPrompt, 1}), rounded = run(other, {kPrompt, 1}),
                           got = run(found, {kPrompt, 1});
  Distance rounding, distance;
  const int64_t vocab = want.model->vocab_size();
  for (size_t at = 0; at < expected.size(); at += static_cast<size_t>(vocab)) {
    rounding.add(&expected[at], &rounded[at], vocab);
    distance.add(&expected[at], &got[at], vocab);
  }
  std::printf("%s, weights %d: relative error %.5f, of 16-bit types on the CPU %.5f\n", family.name,
              static_cast<int>(weights), distance.relative(), rounding.relative());
  EXPECT_LT(rounding.relative(), 0.2);  // or a bound made of it says nothing
  EXPECT_LT(distance.relative(), 0.01 + 1.5 * rounding.relative());
  EXPECT_EQ(run(found, {kPrompt, kTokens}), got);
  EXPECT_EQ(run(found, {5, 6, 22, 16}), got);
}
TEST(ModelGpu, SmallGlmLogitsAreTheCpus) {
  for (const Weights weights : {Weights::kPlain, Weights::kChannels, Weights::kBlocks}) check_family(kGlm, weights);
}
TEST(ModelGpu, SmallGlmWithNormsLogitsAreTheCpus) {
  for (const Weights weights : {Weights::kPlain, Weights::kChannels, Weights::kBlocks}) {
    check_family(kGlmNorms, weights);
  }
}
TEST(ModelGpu, SmallMinimaxLogitsAreTheCpus) {
  for (const Weights weights : {Weights::kPlain, Weights::kChannels, Weights::kBlocks}) check_family(kMinimax, weights);
}
TEST(ModelGpu, SmallQwen2MoeLogitsAreTheCpus) {
  for (const Weights weights : {Weights::kPlain, Weights::kChannels, Weights::kBlocks}) {
    check_family(kQwen2Moe, weights);
  }
}

// One step or many, prompt chunks of any size, generated tokens one by one: the same bits.
void check_steps(bool fp8) {
  Running run = start(gpu(DType::kBF16), fp8);
  SingleSequence& sequence = *run.sequence;
  const Example e = examples()[1];
  const std::vector<float> whole = logits_of(sequence, e);
  for (const size_t chunk : {1, 5, 64}) {
    sequence.clear();
    std::vector<float> parts;
    for (size_t at = 0; at < e.prompt.size(); at += chunk) {
      const size_t n = std::min(chunk, e.prompt.size() - at);
      sequence.append({e.prompt.data() + at, n}, true, 1);
    }
    parts = sequence.download_logits();
    for (size_t at = 0; at < 63; at += chunk) {
      const size_t n = std::min<size_t>(chunk, 63 - at);
      sequence.append({e.continuation.data() + at, n}, false, static_cast<int64_t>(n));
      const std::vector<float> rest = sequence.download_logits();
      parts.insert(parts.end(), rest.begin(), rest.end());
    }
    ASSERT_EQ(parts.size(), whole.size());
    EXPECT_EQ(std::memcmp(parts.data(), whole.data(), whole.size() * sizeof(float)), 0) << "chunks of " << chunk;
  }
}
TEST(ModelGpu, BitsDoNotDependOnTheSteps) { check_steps(false); }
TEST(ModelGpu, Fp8BitsDoNotDependOnTheSteps) { check_steps(true); }

}  // namespace
}  // namespace hearth
