// A device that fails while requests run, in a program of its own: nothing works on that device afterwards. A trap in a
// kernel beside the engine's ends the context as an illegal access or an Xid would.
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <mutex>

#include "cuda/cuda_backend.h"
#include "cuda/gpu_testing.h"
#include "engine/engine.h"
#include "engine/model_runner.h"
#include "models/registry.h"

namespace hearth {
namespace {

constexpr char kLlama[] = R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 512,
  "intermediate_size": 1024, "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64,
  "vocab_size": 1008, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 1e4, "hidden_act": "silu",
  "torch_dtype": "bfloat16"})";

__global__ void trap() { __trap(); }

std::unique_ptr<Runner> make_runner() {
  const std::filesystem::path folder = std::filesystem::path(testing::TempDir()) / "hearth_device_failure_gpu_test";
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "config.json") << kLlama;
  std::shared_ptr<Backend> backend = make_cuda_backend(DType::kBF16).value();
  LoadedModel loaded = load_model(open_model(folder.string(), LoadFormat::kDummy).value(), *backend,
                                  {.max_tokens = 64, .max_logits = 32})
                           .value();
  ModelRunnerOptions options{.max_tokens = 64, .max_sequences = 16, .max_logits = 32, .num_blocks = 2048};
  options.token_buckets = {16, 64};
  std::unique_ptr<Runner> runner = make_model_runner(backend, std::move(loaded.model), options).value();
  EXPECT_TRUE(runner->prepare().ok());
  return runner;
}

TEST(DeviceFailure, EveryRequestIsAnsweredAndTheEngineSaysSo) {
  SteadyClock clock;
  EngineOptions options;
  options.max_num_seqs = 16;
  options.max_num_batched_tokens = 64;
  options.max_model_len = 8192;
  const std::unique_ptr<Engine> engine = make_engine(make_runner(), options, clock);

  constexpr int kRequests = 24;  // more than run at once
  std::mutex mutex;
  int tokens = 0, failed = 0, others = 0;
  for (int i = 0; i < kRequests; ++i) {
    Request request;
    request.id = cat("r", i);
    request.prompt = {1, 2, 3};
    request.sampling.max_tokens = 8000;
    request.sampling.ignore_eos = true;
    request.on_event = [&](RequestEvent&& event) {
      const std::lock_guard lock(mutex);
      tokens += static_cast<int>(event.tokens.size());
      if (!event.finish) return;
      const bool as_told = *event.finish == FinishReason::kError && event.error.code() == Code::kInternal;
      ++(as_told ? failed : others);
    };
    ASSERT_TRUE(engine->submit(std::move(request)).ok());
  }
  const auto until = [&](auto done) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (std::chrono::steady_clock::now() < end) {
      {
        const std::lock_guard lock(mutex);
        if (done()) return true;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
  };
  ASSERT_TRUE(until([&] { return tokens > 100; }));
  trap<<<1, 1>>>();
  EXPECT_TRUE(until([&] { return failed + others == kRequests; }));
  EXPECT_EQ(failed, kRequests);
  EXPECT_FALSE(engine->health().ok());
  EXPECT_EQ(engine->health().message().find('\n'), std::string::npos);
  Request late;
  late.id = "late";
  late.prompt = {1};
  EXPECT_EQ(engine->submit(std::move(late)).code(), Code::kUnavailable);
}

}  // namespace
}  // namespace hearth
