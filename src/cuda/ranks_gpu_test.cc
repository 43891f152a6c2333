// A model on two, three and four ranks, each on a GPU, or on its share of one's multiprocessors: logits against the
// CPU's and against one rank's, the same bits on every rank and in any chunks; an engine over them under a thousand
// requests, some cancelled; and a rank that is lost. The model has Mixtral's widths, fewer channels a feed-forward
// part, two layers and random weights.
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <deque>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <random>

#include "comm/communicator.h"
#include "cpu/cpu_backend.h"
#include "cuda/cuda_backend.h"
#include "cuda/device.h"
#include "cuda/gpu_testing.h"
#include "engine/engine.h"
#include "engine/model_runner.h"
#include "engine/parallel_runner.h"
#include "models/registry.h"
#include "models/single_sequence.h"
#include "weights/safetensors_writer.h"

namespace hearth {
namespace {

constexpr int64_t kVocab = 8064, kHidden = 4096, kIntermediate = 2304, kLayers = 2, kHeads = 36, kKvHeads = 12,
                  kHeadDim = 128, kExperts = 8;  // all of them for 2, 3 and 4 ranks
constexpr int64_t kMaxLen = 512, kMaxTokens = 256, kMaxSequences = 32;
constexpr double kDeviation = 0.02;

// Made once, for all tests.
std::string checkpoint() {
  static const std::string made = [] {
    const std::filesystem::path folder = std::filesystem::path(testing::TempDir()) / "hearth_ranks_gpu_test";
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
    std::ofstream(folder / "config.json")
        << cat(R"({"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_size": )", kHidden,
               R"(, "intermediate_size": )", kIntermediate, R"(, "num_hidden_layers": )", kLayers,
               R"(, "num_attention_heads": )", kHeads, R"(, "num_key_value_heads": )", kKvHeads, R"(, "head_dim": )",
               kHeadDim, R"(, "num_local_experts": )", kExperts, R"(, "num_experts_per_tok": 2, "vocab_size": )",
               kVocab, R"(, "max_position_embeddings": )", kMaxLen,
               R"(, "rms_norm_eps": 1e-5, "rope_theta": 1e6, "hidden_act": "silu", "torch_dtype": "bfloat16"})");
    std::vector<SafetensorsEntry> entries;
    const auto add = [&](std::string name, Shape shape) { entries.push_back({std::move(name), DType::kBF16, shape}); };
    add("model.embed_tokens.weight", {kVocab, kHidden});
    add("model.norm.weight", {kHidden});
    add("lm_head.weight", {kVocab, kHidden});
    for (int64_t i = 0; i < kLayers; ++i) {
      const std::string layer = cat("model.layers.", i, ".");
      add(layer + "input_layernorm.weight", {kHidden});
      add(layer + "post_attention_layernorm.weight", {kHidden});
      add(layer + "self_attn.q_proj.weight", {kHeads * kHeadDim, kHidden});
      add(layer + "self_attn.k_proj.weight", {kKvHeads * kHeadDim, kHidden});
      add(layer + "self_attn.v_proj.weight", {kKvHeads * kHeadDim, kHidden});
      add(layer + "self_attn.o_proj.weight", {kHidden, kHeads * kHeadDim});
      add(layer + "block_sparse_moe.gate.weight", {kExperts, kHidden});
      for (int64_t e = 0; e < kExperts; ++e) {
        const std::string expert = cat(layer, "block_sparse_moe.experts.", e, ".");
        add(expert + "w1.weight", {kIntermediate, kHidden});
        add(expert + "w3.weight", {kIntermediate, kHidden});
        add(expert + "w2.weight", {kHidden, kIntermediate});
      }
    }
    auto writer = SafetensorsWriter::create(folder / "model.safetensors", entries);
    HEARTH_CHECK(writer.ok());
    uint64_t state = 1;
    std::vector<BF16> values;
    for (const SafetensorsEntry& entry : entries) {
      values.resize(static_cast<size_t>(entry.shape.elements()));
      const bool norm = entry.shape.rank() == 1;
      for (BF16& value : values) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        // The sum of two, of deviation 1.
        const float random =
            (static_cast<float>(state >> 48) + static_cast<float>(state >> 32 & 0xffff) - 65535.0f) * 0x1p-16f * 2.449f;
        value = to_bf16(norm ? 1.0f + 0.1f * random : static_cast<float>(kDeviation) * random);
      }
      HEARTH_CHECK(writer->write(entry.name, values.data()).ok());
    }
    HEARTH_CHECK(writer->finish().ok());
    return folder.string();
  }();
  return made;
}

struct Ranks {
  std::vector<std::shared_ptr<Backend>> backends;
  std::vector<std::shared_ptr<Model>> models;
  int size() const { return static_cast<int>(backends.size()); }
  Backend& backend(int rank) const { return *backends[static_cast<size_t>(rank)]; }
  Model& model(int rank) const { return *models[static_cast<size_t>(rank)]; }
};

Ranks load(std::vector<std::shared_ptr<Backend>> backends, bool fp8, bool expert_parallel = false) {
  Ranks out{std::move(backends), {}};
  out.models.resize(out.backends.size());
  ModelOptions options{.max_tokens = kMaxTokens, .max_logits = 2 * kMaxSequences, .max_model_len = kMaxLen};
  if (fp8) options.format = LinearFormat::kQuantize;
  options.fp8_kv_cache = fp8;
  options.expert_parallel = expert_parallel;
  const Status status = run_ranks(out.size(), [&](int rank) -> Status {
    out.backend(rank).enter();
    HEARTH_ASSIGN(LoadedModel loaded, load_model(checkpoint(), out.backend(rank), options));
    out.models[static_cast<size_t>(rank)] = std::move(loaded.model);
    return {};
  });
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.message().c_str());
  HEARTH_CHECK(status.ok());
  return out;
}
Ranks on_cpu(DType act, bool fp8) { return load({make_cpu_backend(act, 0)}, fp8); }
Ranks on_gpu(int ranks, bool fp8, bool expert_parallel = false, Duration limit = std::chrono::seconds(2)) {
  if (ranks == 1) return load({make_cuda_backend(DType::kBF16).value()}, fp8);
  const bool one_gpu = cuda::gpus().value() < ranks;
  auto made = make_cuda_ranks(DType::kBF16, {.count = ranks, .one_gpu = one_gpu, .limit = limit});
  if (!made.ok()) std::fprintf(stderr, "%s\n", made.status().message().c_str());
  std::vector<std::shared_ptr<Backend>> backends;
  for (auto& backend : made.value()) backends.push_back(std::move(backend));
  return load(std::move(backends), fp8, expert_parallel);
}

std::vector<int32_t> random_tokens(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> out(static_cast<size_t>(count));
  for (int32_t& token : out) token = static_cast<int32_t>(random() % kVocab);
  return out;
}

// A sequence a rank, made before any of them runs: memory may be asked for only while no rank waits for another.
class Sequences {
 public:
  explicit Sequences(const Ranks& ranks) : ranks_(ranks) {
    for (int rank = 0; rank < ranks.size(); ++rank) {
      ranks.backend(rank).enter();
      sequences_.push_back(
          SingleSequence::create(ranks.backend(rank), ranks.model(rank), kMaxLen, kMaxTokens, 2 * kMaxSequences)
              .value());
      ranks.backend(rank).synchronize();
    }
  }

  // Logits of the last 30 of 90 tokens, which are run in these chunks; the same of every rank.
  std::vector<float> logits(const std::vector<int64_t>& chunks, bool all_prompt) {
    constexpr int64_t kTokens = 90, kPrompt = 40, kRows = 60, kWanted = 30;
    const std::vector<int32_t> tokens = random_tokens(kTokens, 5);
    std::vector<std::vector<float>> found(sequences_.size());
    const Status status = run_ranks(ranks_.size(), [&](int rank) -> Status {
      Backend& backend = ranks_.backend(rank);
      backend.enter();
      SingleSequence& sequence = sequences_[static_cast<size_t>(rank)];
      sequence.clear();
      std::vector<float>& out = found[static_cast<size_t>(rank)];
      int64_t at = 0;
      for (size_t i = 0; at < kTokens; ++i) {
        const int64_t count = std::min(chunks[i % chunks.size()], kTokens - at), rows = std::min(count, kRows);
        sequence.append({tokens.data() + at, static_cast<size_t>(count)}, all_prompt || at < kPrompt, rows);
        const std::vector<float> logits = sequence.download_logits();
        at += count;
        const int64_t wanted = std::clamp<int64_t>(at - (kTokens - kWanted), 0, std::min(rows, kWanted));
        out.insert(out.end(), logits.end() - wanted * kVocab, logits.end());
      }
      return backend.wait(backend.mark()).status();
    });
    EXPECT_TRUE(status.ok()) << status.message();
    for (const auto& rank : found) EXPECT_TRUE(rank == found[0]) << "the ranks do not have the same bits";
    EXPECT_EQ(std::ssize(found[0]), kWanted * kVocab);
    return found[0];
  }

 private:
  const Ranks& ranks_;
  std::vector<SingleSequence> sequences_;
};

// Of a row, the median of all: here and there a token's experts are as good as equal, and another rounding takes
// others.
double error(const std::vector<float>& got, const std::vector<float>& want) {
  HEARTH_CHECK(got.size() == want.size() && !got.empty());
  std::vector<double> rows;
  for (size_t begin = 0; begin < got.size(); begin += kVocab) {
    double squared = 0, spread = 0;
    for (size_t i = begin; i < begin + kVocab; ++i) {
      const double difference = double{got[i]} - want[i];
      squared += difference * difference, spread += double{want[i]} * want[i];
    }
    rows.push_back(std::sqrt(squared / spread));
  }
  std::ranges::sort(rows);
  return rows[rows.size() / 2];
}

// The bound is made of what another 16-bit type does to the CPU's own logits: half again, and a little, for in
// 16 bit it is small.
void check_logits(bool fp8, const std::vector<int>& sizes, bool expert_parallel = false) {
  const std::vector<int64_t> whole = {90};
  const Ranks cpu = on_cpu(DType::kBF16, fp8), other = on_cpu(DType::kF16, fp8);
  const std::vector<float> want = Sequences(cpu).logits(whole, true);
  const double rounding = error(Sequences(other).logits(whole, true), want);
  EXPECT_LT(rounding, 0.2);
  const double most = 1.5 * rounding + 0.02;
  std::printf("fp8 %d: float16 beside bfloat16 on the CPU %.5f\n", fp8, rounding);
  for (const int size : sizes) {
    SCOPED_TRACE(cat(size, " ranks"));
    const Ranks ranks = on_gpu(size, fp8, expert_parallel);
    Sequences sequences(ranks);
    const std::vector<float> got = sequences.logits(whole, true);
    std::printf("fp8 %d, whole experts %d, %d ranks: %.5f\n", fp8, expert_parallel, size, error(got, want));
    EXPECT_LT(error(got, want), most);
    EXPECT_TRUE(sequences.logits({33}, true) == got) << "a prompt in chunks of 33";
    const std::vector<float> generated = sequences.logits({40, 50}, false);
    EXPECT_TRUE(sequences.logits({40, 1}, false) == generated) << "generated one by one";
    EXPECT_LT(error(generated, want), most) << "generated tokens";
  }
}
TEST(RanksGpu, Bfloat16LogitsAreTheCpus) { check_logits(false, {1, 2, 3, 4}); }
TEST(RanksGpu, Fp8LogitsAreTheCpus) { check_logits(true, {1, 2, 3, 4}); }
TEST(RanksGpu, WholeExpertsBfloat16LogitsAreTheCpus) { check_logits(false, {2, 3, 4}, true); }
TEST(RanksGpu, WholeExpertsFp8LogitsAreTheCpus) { check_logits(true, {2, 3, 4}, true); }

// A runner that drops one step: a rank whose thread is gone.
class DroppingRunner final : public Runner {
 public:
  DroppingRunner(std::unique_ptr<Runner> runner, int64_t step) : runner_(std::move(runner)), step_(step) {}
  RunnerLimits limits() const override { return runner_->limits(); }
  Status prepare() override { return runner_->prepare(); }
  void submit(const StepPlan& plan) override {
    kept_.push_back(plan.step < step_);
    if (kept_.back()) runner_->submit(plan);
  }
  StepResult wait() override {
    const bool kept = kept_.front();
    kept_.pop_front();
    return kept ? runner_->wait() : StepResult();  // says nothing of it: the others must find out
  }

 private:
  const std::unique_ptr<Runner> runner_;
  const int64_t step_;
  std::deque<bool> kept_;  // of the steps in flight
};

std::unique_ptr<Runner> make_runner(const Ranks& ranks, int64_t lose_last_at = -1) {
  ModelRunnerOptions options;
  options.max_tokens = kMaxTokens, options.max_sequences = kMaxSequences, options.max_logits = 2 * kMaxSequences;
  options.num_blocks = 300, options.max_model_len = kMaxLen;
  options.token_buckets = {1, 2, 4, 8, 16, 32, 64, 128, kMaxTokens};
  std::vector<std::unique_ptr<Runner>> runners;
  for (int rank = 0; rank < ranks.size(); ++rank) {
    const auto r = static_cast<size_t>(rank);
    ranks.backends[r]->enter();
    runners.push_back(make_model_runner(ranks.backends[r], ranks.models[r], options).value());
  }
  if (lose_last_at >= 0) {
    runners.back() = std::make_unique<DroppingRunner>(std::move(runners.back()), lose_last_at);
  }
  std::unique_ptr<Runner> runner = make_parallel_runner(std::move(runners));
  const Status prepared = runner->prepare();
  EXPECT_TRUE(prepared.ok()) << prepared.message();
  return runner;
}

EngineOptions engine_options() {
  EngineOptions out;
  out.max_num_seqs = kMaxSequences;
  out.max_num_batched_tokens = kMaxTokens;
  out.max_model_len = kMaxLen;
  out.max_num_queued_requests = 2000;
  return out;
}

// What has come of all requests so far.
struct Heard {
  struct One {
    std::vector<OutputToken> tokens;
    std::optional<FinishReason> finish;
    Status error;
  };
  std::mutex mutex;
  std::map<std::string, One> of;
  std::function<void(RequestEvent&&)> listener(const std::string& id) {
    return [this, id](RequestEvent&& event) {
      const std::lock_guard lock(mutex);
      One& one = of[id];
      one.tokens.insert(one.tokens.end(), event.tokens.begin(), event.tokens.end());
      if (!event.finish) return;
      one.finish = event.finish;
      one.error = event.error;
    };
  }
  bool until_all(int64_t count, int seconds) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
    while (std::chrono::steady_clock::now() < end) {
      {
        const std::lock_guard lock(mutex);
        if (std::ranges::count_if(of, [](const auto& entry) { return entry.second.finish.has_value(); }) == count) {
          return true;
        }
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return false;
  }
};

constexpr int64_t kKinds = 20;
Request request_of(int64_t kind, const std::string& id, Heard& heard) {
  Request out;
  out.id = id;
  out.prompt = random_tokens(1 + kind * 13, static_cast<uint32_t>(kind));
  out.sampling.max_tokens = 8 + kind;
  out.sampling.ignore_eos = true;
  out.sampling.seed = static_cast<uint64_t>(kind);
  out.sampling.temperature = kind % 3 == 0 ? 0.0f : 0.8f;
  if (kind % 4 == 1) out.sampling.top_p = 0.9f;
  if (kind % 4 == 2) out.sampling.top_k = 40;
  out.sampling.logprobs = 2;
  out.on_event = heard.listener(id);
  return out;
}

void check_thousand(int ranks, bool expert_parallel = false) {
  SteadyClock clock;
  const Ranks loaded = on_gpu(ranks, true, expert_parallel);
  Heard alone;
  {
    const std::unique_ptr<Engine> engine = make_engine(make_runner(loaded), engine_options(), clock);
    for (int64_t kind = 0; kind < kKinds; ++kind) {
      ASSERT_TRUE(engine->submit(request_of(kind, std::to_string(kind), alone)).ok()) << engine->health().message();
      ASSERT_TRUE(alone.until_all(kind + 1, 20)) << engine->health().message();
    }
  }
  constexpr int64_t kRequests = 1000;
  Heard heard;
  std::mt19937 random(3);
  int64_t cancelled = 0;
  {
    const std::unique_ptr<Engine> engine = make_engine(make_runner(loaded), engine_options(), clock);
    for (int64_t i = 0; i < kRequests; ++i) {
      ASSERT_TRUE(engine->submit(request_of(i % kKinds, std::to_string(i), heard)).ok());
      if (i % 10 == 9) {
        ++cancelled;
        engine->cancel(std::to_string(i - static_cast<int64_t>(random() % 10)));
      }
      if (i % 50 == 49) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    ASSERT_TRUE(heard.until_all(kRequests, 60)) << engine->health().message();
  }
  int64_t whole = 0;
  for (auto& [id, one] : heard.of) {
    const Heard::One& want = alone.of[std::to_string(std::stoll(id) % kKinds)];
    if (one.finish == FinishReason::kLength) {
      ++whole;
      EXPECT_TRUE(one.tokens == want.tokens) << id;
    } else {
      EXPECT_LE(one.tokens.size(), want.tokens.size());
      EXPECT_TRUE(std::ranges::equal(one.tokens, std::span(want.tokens).first(one.tokens.size()))) << id;
    }
  }
  EXPECT_GE(whole, kRequests - cancelled);
  std::printf("%d ranks: %lld requests whole, %lld cancelled\n", ranks, static_cast<long long>(whole),
              static_cast<long long>(kRequests - whole));
}
TEST(RanksGpu, TwoRanksServeAThousandRequests) { check_thousand(2); }
TEST(RanksGpu, FourRanksServeAThousandRequests) { check_thousand(4); }
TEST(RanksGpu, WholeExpertsServeAThousandRequests) { check_thousand(2, true); }

TEST(RanksGpu, ALostRankEndsEveryRequest) {
  SteadyClock clock;
  const Ranks loaded = on_gpu(2, true, false, std::chrono::milliseconds(300));
  const std::unique_ptr<Engine> engine = make_engine(make_runner(loaded, 12), engine_options(), clock);
  Heard heard;
  constexpr int64_t kRequests = 40;
  for (int64_t i = 0; i < kRequests; ++i) {
    Request request = request_of(i % kKinds, std::to_string(i), heard);
    request.sampling.max_tokens = 200;
    ASSERT_TRUE(engine->submit(std::move(request)).ok());
  }
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_TRUE(heard.until_all(kRequests, 10));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
  for (const auto& [id, one] : heard.of) EXPECT_EQ(one.finish, FinishReason::kError) << id;
  EXPECT_NE(engine->health().message().find("rank 1 of 2 did not come to the others within 0.3 s"), std::string::npos)
      << engine->health().message();
}

}  // namespace
}  // namespace hearth
