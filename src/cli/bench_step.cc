// `hearth bench step`: what a step of a model costs, as a whole and op by op, against what it cannot do without.
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "base/json.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/progress.h"
#include "cli/write_json.h"
#include "grammar/constraint.h"
#include "models/kv_cache.h"

namespace hearth {
namespace {

// A step of one prompt's tokens and of generated tokens, one of each of so many sequences.
struct StepShape {
  int64_t prompt = 0, decodes = 0;
};

Result<StepShape> parse_shape(const std::string& text) {
  StepShape shape;
  const char* end = text.data() + text.size();
  const auto prompt = std::from_chars(text.data(), end, shape.prompt);
  if (prompt.ec == std::errc() && prompt.ptr != end && *prompt.ptr == '+') {
    const auto decodes = std::from_chars(prompt.ptr + 1, end, shape.decodes);
    if (decodes.ec == std::errc() && decodes.ptr == end && shape.prompt >= 0 && shape.decodes >= 0 &&
        shape.prompt + shape.decodes > 0) {
      return shape;
    }
  }
  return invalid("--steps: expected PROMPT+DECODES such as 1000+50, not ", text);
}

// Sequence s has the blocks from s * blocks_each on.
class StepMaker {
 public:
  StepMaker(int64_t blocks_each, int64_t vocab) : blocks_each_(blocks_each), token_(0, static_cast<int>(vocab) - 1) {}

  void begin() {
    const int64_t step = plan.step + 1;
    plan = {};
    plan.step = step;
  }
  void add(int64_t sequence, int64_t start, int64_t num_tokens, int64_t prompt_len) {
    const auto i32 = [](int64_t n) { return static_cast<int32_t>(n); };
    StepSequence part;
    part.sequence = sequence;
    part.start = i32(start), part.prompt_len = i32(prompt_len);
    part.first_token = i32(plan.num_tokens()), part.num_tokens = i32(num_tokens);
    part.first_block = i32(std::ssize(plan.block_ids)), part.num_blocks = i32(ceil_div(start + num_tokens, kBlockSize));
    part.first_row = i32(plan.num_rows()), part.num_rows = 1;
    part.draws = true;
    for (int64_t i = 0; i < part.num_blocks; ++i) plan.block_ids.push_back(i32(sequence * blocks_each_ + i));
    for (int64_t i = 0; i < num_tokens; ++i) plan.token_ids.push_back(token_(random_));
    plan.logit_rows.push_back(i32(plan.num_tokens() - 1));
    plan.rows.push_back({.temperature = 0, .position = i32(start + num_tokens)});
    plan.edit_starts.push_back(0);
    plan.sequences.push_back(part);
  }

  // Every row draws from a mask of its own, as with a grammar on every request: every other token at random.
  void mask_rows(int64_t vocab) {
    for (int32_t row = 0; row < plan.num_rows(); ++row) {
      std::vector<int32_t> mask(static_cast<size_t>(Constraint::mask_words(vocab)));
      std::ranges::generate(mask, [&] { return static_cast<int32_t>(random_()); });
      plan.masked_rows.push_back(row);
      plan.masks.push_back(std::make_shared<const std::vector<int32_t>>(std::move(mask)));
    }
  }

  StepPlan plan;

 private:
  int64_t blocks_each_;
  std::mt19937 random_{1};
  std::uniform_int_distribution<int> token_;
};

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values.empty() ? 0 : values[values.size() / 2];
}

// Ops of one name, summed over the step.
struct Line {
  int64_t calls = 0;
  double seconds = 0, floor = 0;
};

class StepBench {
 public:
  StepBench(LoadedRunners loaded, const BenchStepOptions& options) : loaded_(std::move(loaded)), options_(options) {}

  Result<Json> measure(const StepShape& shape) {
    Runner& runner = *loaded_.runners[0];
    const RunnerLimits limits = runner.limits();
    const int64_t sequences = shape.decodes + (shape.prompt > 0 ? 1 : 0);
    const int64_t longest = std::max(options_.context + 1, shape.prompt), blocks_each = ceil_div(longest, kBlockSize);
    if (shape.prompt + shape.decodes > limits.max_tokens || sequences > limits.max_sequences)
      return invalid("--steps: a step holds ", limits.max_tokens, " tokens of ", limits.max_sequences,
                     " sequences; see --max-num-batched-tokens and --max-num-seqs");
    if (longest > limits.max_model_len || blocks_each * sequences > limits.num_blocks)
      return invalid("--context: contexts of ", longest, " tokens do not fit the KV cache or the model's length");

    StepMaker maker(blocks_each, limits.vocab_size);
    for (int64_t s = 0; s < shape.decodes; ++s) {
      for (int64_t start = 0; start < options_.context; start += limits.max_tokens) {
        maker.begin();
        maker.add(s, start, std::min(limits.max_tokens, options_.context - start), options_.context);
        runner.submit(maker.plan);
        runner.wait();
      }
    }
    maker.begin();
    for (int64_t s = 0; s < shape.decodes; ++s) maker.add(s, options_.context, 1, options_.context);
    if (shape.prompt > 0) maker.add(shape.decodes, 0, shape.prompt, shape.prompt);
    if (options_.masked) maker.mask_rows(limits.vocab_size);

    // As in the engine: the next step is behind the one that runs.
    std::array<StepPlan, 2> plans{maker.plan, maker.plan};
    ++plans[1].step;
    std::vector<double> times;
    auto last = std::chrono::steady_clock::now();
    runner.submit(plans[0]);
    for (int64_t i = 1; i <= options_.repeat + kWarmUp; ++i) {
      runner.submit(plans[static_cast<size_t>(i % 2)]);
      runner.wait();
      const auto now = std::chrono::steady_clock::now();
      if (i > kWarmUp) times.push_back(std::chrono::duration<double>(now - last).count());
      last = now;
    }
    runner.wait();
    return report(shape, median(times), runner.profile(maker.plan));
  }

 private:
  static constexpr int64_t kWarmUp = 5;

  double floor_of(const OpTime& op, const StepShape& shape) const {
    const double flops = op.type == DType::kE4M3 ? options_.fp8_tflops : options_.act_tflops;
    double bytes = op.bytes;
    if (op.name == "attention") {  // and what only the plan knows
      const std::vector<KvSpec> layers = loaded_.model->kv_specs();
      bytes += static_cast<double>(kv_block_bytes(layers) / std::ssize(layers)) / kBlockSize *
               static_cast<double>(shape.decodes * (options_.context + 1));
    }
    return std::max(bytes / (options_.read_tbs * 1e12), op.flops / (flops * 1e12));
  }

  Json report(const StepShape& shape, double step, const std::vector<OpTime>& ops) const {
    std::map<std::string, Line> lines;
    std::vector<std::string> order;
    Line all;
    for (const OpTime& op : ops) {
      if (!lines.contains(op.name)) order.push_back(op.name);
      const double floor = floor_of(op, shape);
      for (Line* line : {&lines[op.name], &all}) {
        ++line->calls, line->seconds += op.seconds, line->floor += floor;
      }
    }
    std::printf("\n%lld prompt tokens + %lld decodes at %lld: %.3f ms a step, floor %.3f ms (%.0f%%)\n",
                static_cast<long long>(shape.prompt), static_cast<long long>(shape.decodes),
                static_cast<long long>(options_.context), step * 1e3, all.floor * 1e3, 100 * all.floor / step);
    Json rows = Json::array();
    const auto print = [&](const std::string& name, const Line& line) {
      std::printf("  %-22s %4lld x %8.1f us = %7.3f ms   floor %7.3f ms   %3.0f%%\n", name.c_str(),
                  static_cast<long long>(line.calls), line.seconds * 1e6 / static_cast<double>(line.calls),
                  line.seconds * 1e3, line.floor * 1e3, line.seconds > 0 ? 100 * line.floor / line.seconds : 0);
      rows.push_back({{"op", name}, {"calls", line.calls}, {"ms", line.seconds * 1e3}, {"floor_ms", line.floor * 1e3}});
    };
    for (const std::string& name : order) print(name, lines[name]);
    if (!ops.empty()) print("ops one by one", all);
    return {{"prompt_tokens", shape.prompt}, {"decodes", shape.decodes},    {"context", options_.context},
            {"step_ms", step * 1e3},         {"floor_ms", all.floor * 1e3}, {"ops", rows}};
  }

  LoadedRunners loaded_;
  const BenchStepOptions& options_;
};

Status bench_step(const ServerOptions& server, const BenchStepOptions& options) {
  std::vector<StepShape> shapes;
  for (const std::string& text : options.steps) {
    HEARTH_ASSIGN(const StepShape shape, parse_shape(text));
    shapes.push_back(shape);
  }
  const LoadFormat format = server.load_format == "dummy" ? LoadFormat::kDummy : LoadFormat::kAuto;
  HEARTH_ASSIGN(OpenedModel opened, open_model(server.model, format));
  ProgressLine line("loading");
  HEARTH_ASSIGN(LoadedRunners loaded, load_runners(std::move(opened), server,
                                                   [&](int64_t done, int64_t total) { line.update(done, total); }));
  line.finish();
  Json out{{"model", server.model},
           {"backend", loaded.backend_name},
           {"quantization", server.quantization},
           {"kv_cache_dtype", server.kv_cache_dtype},
           {"read_tbs", options.read_tbs},
           {"fp8_tflops", options.fp8_tflops},
           {"act_tflops", options.act_tflops},
           {"masked", options.masked},
           {"steps", Json::array()}};
  StepBench bench(std::move(loaded), options);
  for (const StepShape& shape : shapes) {
    HEARTH_ASSIGN(Json step, bench.measure(shape));
    out["steps"].push_back(std::move(step));
  }
  return options.json.empty() ? Status() : write_json(options.json, out);
}

}  // namespace

int bench_step_command(const ServerOptions& server, const BenchStepOptions& options) {
  const Status status = bench_step(server, options);
  if (!status.ok()) log_error(status.message());
  return status.ok() ? 0 : 1;
}

}  // namespace hearth
