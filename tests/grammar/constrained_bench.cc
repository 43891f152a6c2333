// What constraints cost the engine: tokens a second of 64 sequences on a pretend device that takes a real step's time,
// without constraints, with a JSON Schema, and with tools that the model may call. constrained_bench GGUF [STEP_MS]
#include <algorithm>
#include <condition_variable>
#include <deque>
#include <iostream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "api/answer_shaper.h"
#include "engine/engine.h"
#include "engine/runner.h"
#include "formats/answer_format.h"
#include "grammar/json_schema.h"
#include "text/test_vocabulary.h"
#include "text/tokenizer.h"
#include "weights/gguf.h"

using namespace hearth;

namespace {

int32_t draw(uint64_t seed, int64_t position, const std::vector<int32_t>* mask, int64_t vocab_size) {
  uint64_t x = (seed * 1000003 + static_cast<uint64_t>(position)) * 0x9E3779B97F4A7C15ull;
  x ^= x >> 31;
  auto token = static_cast<int64_t>(x % static_cast<uint64_t>(vocab_size));
  for (int64_t i = 0; mask != nullptr && i < vocab_size; ++i, token = (token + 1) % vocab_size) {
    if ((static_cast<uint32_t>((*mask)[static_cast<size_t>(token / 32)]) >> (token % 32) & 1) != 0) break;
  }
  return static_cast<int32_t>(token);
}

// Takes STEP_MS a step, on a clock that goes on while the engine works, and draws tokens at random from the masks.
class SleepingRunner final : public Runner {
 public:
  SleepingRunner(const RunnerLimits& limits, Duration step) : limits_(limits), step_(step) {}
  RunnerLimits limits() const override { return limits_; }
  void submit(const StepPlan& plan) override {
    busy_until_ = std::max(busy_until_, clock_.now()) + step_;
    in_flight_.emplace_back(&plan, busy_until_);
  }
  StepResult wait() override {
    const auto [plan, done] = in_flight_.front();
    in_flight_.pop_front();
    StepResult out;
    const auto rows = static_cast<size_t>(plan->num_rows());
    out.logprobs.resize(rows);
    out.ranks.resize(rows);
    out.top_tokens.resize(rows * static_cast<size_t>(limits_.max_logprobs));
    out.top_logprobs.resize(out.top_tokens.size());
    size_t masked = 0;
    for (size_t row = 0; row < rows; ++row) {
      const bool has_mask = masked < plan->masked_rows.size() && plan->masked_rows[masked] == static_cast<int>(row);
      const SamplingRow& of = plan->rows[row];
      out.tokens.push_back(
          draw(of.seed, of.position, has_mask ? plan->masks[masked++].get() : nullptr, limits_.vocab_size));
    }
    std::this_thread::sleep_for(done - clock_.now());
    return out;
  }

 private:
  const RunnerLimits limits_;
  const Duration step_;
  const SteadyClock clock_;
  std::deque<std::pair<const StepPlan*, TimePoint>> in_flight_;
  TimePoint busy_until_{0};
};

// Tokens a second of so many sequences at once, each followed by another when it ends.
double measure(const std::shared_ptr<const Grammar>& grammar, const RunnerLimits& limits, int32_t end, Duration step,
               EngineStats& stats) {
  const SteadyClock clock;
  EngineOptions options;
  options.max_num_seqs = limits.max_sequences;
  options.max_num_batched_tokens = limits.max_tokens;
  options.max_logprobs = limits.max_logprobs;
  options.end_tokens = {end};
  const auto engine = make_engine(std::make_unique<SleepingRunner>(limits, step), options, clock);
  std::mutex mutex;
  std::condition_variable ended;
  int64_t open = 0, tokens = 0, number = 0;
  const auto submit = [&] {
    Request request;
    request.id = std::to_string(number);
    request.prompt.assign(16, 1);
    request.sampling.max_tokens = 120;
    request.sampling.seed = static_cast<uint64_t>(number++);
    request.grammar = grammar;
    request.on_event = [&](RequestEvent&& event) {
      std::lock_guard lock(mutex);
      tokens += std::ssize(event.tokens);
      if (!event.finish) return;
      --open;
      ended.notify_one();
    };
    HEARTH_CHECK(engine->submit(std::move(request)).ok());
  };
  const TimePoint begin = clock.now();
  std::unique_lock lock(mutex);
  while (clock.now() - begin < std::chrono::seconds(8)) {
    while (open < limits.max_sequences) {
      ++open;
      lock.unlock();
      submit();
      lock.lock();
    }
    ended.wait_for(lock, std::chrono::milliseconds(100));
  }
  const double rate = static_cast<double>(tokens) / seconds(clock.now() - begin);
  lock.unlock();
  stats = engine->stats();
  engine->drain(Duration::zero());
  return rate;
}

// What one more token takes on one thread, in microseconds: accepted, text ahead looked for, the next mask.
void time_masks(const Grammar& grammar, int32_t end, int64_t vocab_size) {
  const SteadyClock clock;
  std::vector<double> accepts, jumps, masks;
  const auto timed = [&](std::vector<double>& times, const auto& call) {
    const TimePoint begin = clock.now();
    call();
    times.push_back(seconds(clock.now() - begin) * 1e6);
  };
  std::vector<int32_t> mask(static_cast<size_t>(Constraint::mask_words(vocab_size)));
  for (uint64_t seed = 0; seed < 30; ++seed) {
    const auto constraint = grammar.start();
    int32_t token = 0;
    for (int64_t i = 0; i < 120 && token != end; ++i) {
      bool masked = false;
      timed(masks, [&] { masked = constraint->fill_mask(mask); });
      token = draw(seed, i, masked ? &mask : nullptr, vocab_size);
      timed(accepts, [&] { constraint->accept(token); });
      timed(jumps, [&] { constraint->jump_ahead(); });
    }
  }
  for (const auto& [name, times] : {std::pair("accept", &accepts), {"jump", &jumps}, {"mask", &masks}}) {
    std::ranges::sort(*times);
    double sum = 0;
    for (const double time : *times) sum += time;
    std::cout << "  " << name << " " << sum / static_cast<double>(times->size()) << " us, median "
              << (*times)[times->size() / 2] << ", 99th percentile " << (*times)[times->size() * 99 / 100] << "\n";
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "constrained_bench GGUF [STEP_MS]\n";
    return 1;
  }
  const auto step = std::chrono::microseconds(argc > 2 ? static_cast<int64_t>(std::stod(argv[2]) * 1000) : 13000);
  const GgufFile file = GgufFile::open(argv[1]).value();
  const auto tokenizer =
      std::move(Tokenizer::from_vocabulary(vocabulary_of(read_gguf_tokenizer(file).value()))).value();
  RunnerLimits limits;
  limits.block_size = 64;
  limits.num_blocks = 1024;
  limits.vocab_size = tokenizer->vocab_size();
  limits.max_model_len = 1024;
  limits.max_sequences = 64;
  limits.max_tokens = 512;
  limits.max_logits = 64;
  limits.max_logprobs = 1;
  limits.max_edits = limits.vocab_size;
  const int32_t end = tokenizer->eos().value();
  const AnswerShaper shaper(choose_format("hermes", "none", "").value(), *tokenizer, {end}, limits.vocab_size);
  const Json person = parse_json(R"({"type":"object","properties":{"name":{"type":"string","maxLength":30},
      "born":{"type":"string","format":"date"},"score":{"type":"number"},"tags":{"type":"array","items":{"type":"string"}},
      "home":{"type":"object","properties":{"street":{"type":"string"},"number":{"type":"integer","minimum":1}},
      "required":["street"]}},"required":["name","born","score","tags","home"]})")
                          .value();
  ChatRequest schema, tools;
  schema.form.spec = GrammarSpec{GrammarSpec::Kind::kJsonSchema, person.dump()};
  const Json plain = plain_schema(person).value();
  for (const char* name : {"get_weather", "search", "send_mail"}) tools.tools.tools.push_back(Tool{name, plain});
  tools.tools.choice = ToolChoice::kAuto;
  const auto shape = [&](const ChatRequest& request) { return shaper.of_chat(request, {1}).value().grammar; };
  const struct {
    const char* name;
    std::shared_ptr<const Grammar> grammar;
  } cases[] = {{"none", nullptr}, {"JSON Schema", shape(schema)}, {"tools, auto", shape(tools)}};
  std::cout << "64 sequences, steps of " << static_cast<double>(step.count()) / 1000 << " ms, " << limits.vocab_size
            << " tokens of vocabulary\n";
  double without = 0;
  for (const auto& one : cases) {
    EngineStats stats;
    const double rate = measure(one.grammar, limits, end, step, stats);
    if (one.grammar == nullptr) without = rate;
    std::cout << one.name << ": " << static_cast<int64_t>(rate) << " tokens/s, "
              << static_cast<double>(static_cast<int64_t>((rate / without - 1) * 1000)) / 10 << "%; "
              << stats.draws_taken_back << " of " << stats.generation_tokens << " draws taken back\n";
    if (one.grammar != nullptr) time_masks(*one.grammar, end, limits.vocab_size);
  }
  return 0;
}
