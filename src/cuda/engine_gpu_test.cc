// The engine on a GPU, with captured steps of padded sizes and two of them in flight: requests get the same bits alone,
// together, and whatever their prompts' chunks. Random models of Mixtral's and of SmolLM2's shape, a few layers deep,
// and the model in test_examples.h's variable.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <random>

#include "cuda/cuda_backend.h"
#include "cuda/test_examples.h"
#include "engine/engine_core.h"
#include "engine/model_runner.h"
#include "models/registry.h"

namespace hearth {
namespace {

constexpr int64_t kVocab = 1008, kMaxTokens = 160, kMaxSequences = 24;

constexpr char kMixtral[] = R"({"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_size": 512,
  "intermediate_size": 1024, "num_hidden_layers": 3, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 128,
  "num_local_experts": 8, "num_experts_per_tok": 2, "vocab_size": 1008, "max_position_embeddings": 1024,
  "rms_norm_eps": 1e-5, "rope_theta": 1e6, "hidden_act": "silu", "sliding_window": null, "torch_dtype": "bfloat16"})";
// Nine heads for three, and a last block of K that is half empty.
constexpr char kLlama[] = R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 576,
  "intermediate_size": 1536, "num_hidden_layers": 3, "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64,
  "vocab_size": 1008, "max_position_embeddings": 1024, "rms_norm_eps": 1e-5, "rope_theta": 1e4, "hidden_act": "silu",
  "tie_word_embeddings": true, "torch_dtype": "bfloat16"})";

// Groups of seven, biases on q, k and v, a window in the last two layers.
constexpr char kQwen2[] = R"({"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 896,
  "intermediate_size": 1024, "num_hidden_layers": 3, "num_attention_heads": 14, "num_key_value_heads": 2,
  "use_sliding_window": true, "sliding_window": 100, "max_window_layers": 1, "vocab_size": 1008,
  "max_position_embeddings": 1024, "rms_norm_eps": 1e-6, "hidden_act": "silu", "torch_dtype": "bfloat16"})";
// FP8 in blocks as published, a norm of each head, a dense layer among experts.
constexpr char kQwen3Moe[] =
    R"({"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 512,
  "intermediate_size": 1024, "moe_intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 8,
  "num_key_value_heads": 2, "head_dim": 128, "num_experts": 24, "num_experts_per_tok": 4, "norm_topk_prob": true,
  "mlp_only_layers": [1], "vocab_size": 1008, "max_position_embeddings": 1024, "rms_norm_eps": 1e-6,
  "hidden_act": "silu", "torch_dtype": "bfloat16", "quantization_config": {"quant_method": "fp8", "fmt": "e4m3",
  "activation_scheme": "dynamic", "weight_block_size": [128, 128]}})";
// A norm of all heads, weights that do not sum to 1.
constexpr char kOlmoe[] = R"({"architectures": ["OlmoeForCausalLM"], "model_type": "olmoe", "hidden_size": 512,
  "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 8, "num_key_value_heads": 8,
  "num_experts": 24, "num_experts_per_tok": 4, "vocab_size": 1008, "max_position_embeddings": 1024,
  "rms_norm_eps": 1e-5, "hidden_act": "silu", "torch_dtype": "bfloat16"})";

struct Served {
  std::shared_ptr<Backend> backend;
  std::shared_ptr<Model> model;
};

Result<Served> load(const std::string& folder, LoadFormat format, DType act, bool fp8) {
  HEARTH_ASSIGN(std::unique_ptr<Backend> backend, make_cuda_backend(act));
  ModelOptions options{.max_tokens = kMaxTokens, .max_logits = 2 * kMaxSequences, .max_model_len = 1024};
  if (fp8) options.format = LinearFormat::kQuantize;
  options.fp8_kv_cache = fp8;
  HEARTH_ASSIGN(OpenedModel opened, open_model(folder, format));
  HEARTH_ASSIGN(LoadedModel loaded, load_model(std::move(opened), *backend, options));
  return Served{std::move(backend), std::move(loaded.model)};
}

Result<Served> load_random(const char* config, DType act, bool fp8) {
  const std::filesystem::path folder = std::filesystem::path(testing::TempDir()) / "hearth_engine_gpu_test";
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "config.json") << config;
  return load(folder.string(), LoadFormat::kDummy, act, fp8);
}

// Greedy and sampled in many ways.
Request request_for(size_t i, std::vector<int32_t> prompt, int64_t output) {
  Request request;
  request.id = std::to_string(i);
  request.prompt = std::move(prompt);
  request.sampling.max_tokens = output;
  request.sampling.seed = i;
  request.sampling.logprobs = 2;
  if (i % 2 == 0) request.sampling.temperature = 0;
  if (i % 3 == 0) request.sampling.top_p = 0.9f;
  if (i % 5 == 0) request.sampling.repetition_penalty = 1.2f;
  return request;
}

std::vector<Request> random_requests(size_t count, int64_t longest, int64_t output) {
  std::mt19937 random(11);
  std::vector<Request> out;
  for (size_t i = 0; i < count; ++i) {
    std::vector<int32_t> prompt(1 + random() % static_cast<uint64_t>(longest));
    for (int32_t& token : prompt) token = static_cast<int32_t>(random() % kVocab);
    out.push_back(request_for(i, std::move(prompt), output));
  }
  return out;
}

using Answers = std::map<std::string, std::vector<OutputToken>>;
Answers answer(const Served& served, const std::vector<Request>& requests, int64_t tokens_a_step, bool one_by_one) {
  SteadyClock clock;
  ModelRunnerOptions options;
  options.max_tokens = kMaxTokens, options.max_sequences = kMaxSequences, options.max_logits = 2 * kMaxSequences;
  options.num_blocks = 400;
  options.token_buckets = {1, 2, 3, 8, 17, 32, 64, 100, kMaxTokens};
  EngineOptions engine;
  engine.max_num_seqs = kMaxSequences, engine.max_num_batched_tokens = tokens_a_step;
  std::unique_ptr<Runner> runner = make_model_runner(served.backend, served.model, options).value();
  EXPECT_TRUE(runner->prepare().ok());
  EngineCore core(std::move(runner), engine, clock);
  Answers out;
  for (const Request& original : requests) {
    Request request = original;
    request.on_event = [&tokens = out[request.id]](RequestEvent&& event) {
      tokens.insert(tokens.end(), event.tokens.begin(), event.tokens.end());
      EXPECT_TRUE(event.error.ok()) << event.error.message();
    };
    EXPECT_TRUE(core.scheduler().accept(request, clock.now()).ok());
    core.scheduler().add(std::move(request));
    while (one_by_one && core.scheduler().has_work()) EXPECT_TRUE(core.step().ok());
  }
  while (core.scheduler().has_work()) EXPECT_TRUE(core.step().ok());
  return out;
}

void check(const Result<Served>& served, const std::vector<Request>& requests) {
  ASSERT_TRUE(served.ok()) << served.status().message();
  const Answers together = answer(*served, requests, kMaxTokens, false);
  for (const Request& r : requests) EXPECT_EQ(std::ssize(together.at(r.id)), r.sampling.max_tokens) << r.id;
  EXPECT_TRUE(answer(*served, requests, kMaxTokens, true) == together) << "one by one";
  EXPECT_TRUE(answer(*served, requests, 33, false) == together) << "in chunks of 33";
}
void check_random(const char* config, DType act, bool fp8, size_t count, int64_t longest, int64_t output) {
  check(load_random(config, act, fp8), random_requests(count, longest, output));
}

TEST(EngineGpu, SmallMixtralFp8) { check_random(kMixtral, DType::kBF16, true, 3, 70, 3); }
TEST(EngineGpu, SmallLlamaFp8) { check_random(kLlama, DType::kBF16, true, 3, 70, 3); }
TEST(EngineGpu, MixtralBfloat16) { check_random(kMixtral, DType::kBF16, false, 40, 400, 24); }
TEST(EngineGpu, MixtralFp8) { check_random(kMixtral, DType::kBF16, true, 40, 400, 24); }
TEST(EngineGpu, LlamaFloat16) { check_random(kLlama, DType::kF16, false, 40, 400, 24); }
TEST(EngineGpu, LlamaFp8) { check_random(kLlama, DType::kBF16, true, 40, 400, 24); }

TEST(EngineGpu, Qwen2Bfloat16) { check_random(kQwen2, DType::kBF16, false, 40, 400, 24); }
TEST(EngineGpu, Qwen2Fp8) { check_random(kQwen2, DType::kBF16, true, 40, 400, 24); }
TEST(EngineGpu, SmallQwen3MoeFp8) { check_random(kQwen3Moe, DType::kBF16, true, 3, 70, 3); }
TEST(EngineGpu, Qwen3MoeFp8) { check_random(kQwen3Moe, DType::kBF16, true, 40, 400, 24); }
TEST(EngineGpu, OlmoeBfloat16) { check_random(kOlmoe, DType::kBF16, false, 40, 400, 24); }
TEST(EngineGpu, OlmoeFp8) { check_random(kOlmoe, DType::kBF16, true, 40, 400, 24); }

void check_given(bool fp8) {
  if (!given_model()) GTEST_SKIP() << kGivenModelVariable << " is not set";
  std::vector<Request> requests;
  for (int copy = 0; copy < 3; ++copy) {  // each prompt greedily and sampled, at different times
    for (const Example& e : examples()) requests.push_back(request_for(requests.size(), e.prompt, 64));
  }
  check(load(*given_model(), LoadFormat::kAuto, DType::kBF16, fp8), requests);
}
TEST(EngineGpu, GivenModelBfloat16) { check_given(false); }
TEST(EngineGpu, GivenModelFp8) { check_given(true); }

}  // namespace
}  // namespace hearth
