// A real model behind the engine: 50 requests at once, the first 20 greedy and the others sampled, give what each gives
// alone, and the greedy ones what transformers gave.
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "cpu/cpu_backend.h"
#include "engine/engine_core.h"
#include "engine/model_runner.h"
#include "models/registry.h"
#include "weights/mapped_file.h"

namespace hearth {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int64_t kRequests = 4, kGreedy = 2, kGreedyTokens = 3, kSampledTokens = 2;  // a fiftieth of the speed
#else
constexpr int64_t kRequests = 50, kGreedy = 20, kGreedyTokens = 16, kSampledTokens = 8;
#endif

using Answers = std::map<std::string, std::vector<OutputToken>>;

struct Device {
  std::shared_ptr<Backend> backend = make_cpu_backend(DType::kF32, 0);
  std::shared_ptr<Model> model = load_model(".cache/models/smollm2-135m-instruct.gguf", *backend,
                                            {.max_tokens = 128, .max_logits = 64, .max_model_len = 256})
                                     .value()
                                     .model;
};

Answers answer(const Device& device, const std::vector<Request>& requests, bool one_by_one) {
  SteadyClock clock;
  ModelRunnerOptions runner;
  runner.max_tokens = 128;
  runner.max_sequences = 50;
  runner.max_logits = 64;
  runner.num_blocks = 100;
  EngineOptions options;
  options.max_num_seqs = 50;
  options.max_num_batched_tokens = 128;
  options.end_tokens = {2};
  EngineCore core(make_model_runner(device.backend, device.model, runner).value(), options, clock);
  Answers out;
  for (const Request& original : requests) {
    Request request = original;
    request.on_event = [&tokens = out[request.id]](RequestEvent&& event) {
      tokens.insert(tokens.end(), event.tokens.begin(), event.tokens.end());
      EXPECT_TRUE(event.error.ok());
    };
    EXPECT_TRUE(core.scheduler().accept(request, clock.now()).ok());
    core.scheduler().add(std::move(request));
    while (one_by_one && core.scheduler().has_work()) EXPECT_TRUE(core.step().ok());
  }
  while (core.scheduler().has_work()) EXPECT_TRUE(core.step().ok());
  return out;
}

TEST(SmolLm2, FiftyAtOnceAnswerAsAlone) {
  const auto golden = parse_json(read_text_file("tests/golden/models/smollm2_greedy.json").value());
  ASSERT_TRUE(golden.ok());
  const Json& cases = (*golden)["cases"];
  ASSERT_EQ(cases.size(), 20u);
  std::vector<Request> requests(kRequests);
  for (size_t i = 0; i < requests.size(); ++i) {
    Request& request = requests[i];
    request.id = std::to_string(i);
    request.prompt = cases[i % cases.size()]["prompt"].get<std::vector<int32_t>>();
    request.sampling.ignore_eos = true;
    if (i < kGreedy) {
      request.sampling.temperature = 0;
      request.sampling.max_tokens = kGreedyTokens;
    } else {
      request.sampling.seed = i;
      request.sampling.max_tokens = kSampledTokens;
      request.sampling.logprobs = 2;
      if (i % 2 == 0) request.sampling.repetition_penalty = 1.3f;
    }
  }
  const Device device;
  const Answers together = answer(device, requests, false);
  for (size_t i = 0; i < kGreedy; ++i) {
    auto expected = cases[i]["continuation"].get<std::vector<int32_t>>();
    expected.resize(kGreedyTokens);
    std::vector<int32_t> found;
    for (const OutputToken& token : together.at(std::to_string(i))) found.push_back(token.token);
    EXPECT_EQ(found, expected) << "prompt " << i;
  }
  const Answers alone = answer(device, requests, true);
  ASSERT_EQ(std::ssize(alone), kRequests);
  for (const Request& request : requests) {
    EXPECT_EQ(std::ssize(alone.at(request.id)), request.sampling.max_tokens);
    EXPECT_TRUE(alone.at(request.id) == together.at(request.id)) << "request " << request.id;
  }
}

}  // namespace
}  // namespace hearth
