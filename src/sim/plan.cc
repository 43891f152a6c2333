// Floors, shares, and searches for the rate at which a target is met.
#include "sim/plan.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/embed.h"
#include "base/json.h"

HEARTH_EMBED(measured_steps, HEARTH_MEASURED_STEPS)

namespace hearth {

namespace {

// What attention reaches of its floors, and a GPU's memory that is to be had.
constexpr double kContextShare = 0.88, kPromptShare = 0.7, kMemoryShare = 0.9;

double number(int64_t n) { return static_cast<double>(n); }

double between(const std::vector<std::pair<double, double>>& points, double x) {
  if (x <= points.front().first) return points.front().second;
  for (size_t i = 1; i < points.size(); ++i) {
    const auto [x0, y0] = points[i - 1];
    const auto [x1, y1] = points[i];
    if (x <= x1) return y0 + (y1 - y0) * (x - x0) / (x1 - x0);
  }
  return points.back().second;
}

// Bytes and operations of a model's part on one of T GPUs.
class Floors {
 public:
  Floors(const StepTables::Gpu& gpu, const PlanShape& shape, bool fp8, int64_t ranks)
      : gpu_(gpu), shape_(shape), fp8_(fp8), ranks_(number(ranks)) {}

  double attention_weights() const {
    return number(shape_.hidden) * number((2 * shape_.heads + 2 * shape_.kv_heads) * shape_.head_dim) / ranks_;
  }
  double expert_weights() const { return 3 * number(shape_.hidden) * number(shape_.intermediate) / ranks_; }
  double experts() const { return number(std::max<int64_t>(shape_.experts, 1)); }
  double chosen() const { return shape_.experts > 0 ? number(shape_.experts_per_token) : 1; }
  double head_bytes() const { return 2 * number(shape_.hidden) * number(shape_.vocab) / ranks_; }

  double weight_bytes() const {
    const double each = fp8_ ? 1 : 2;
    return number(shape_.layers) * (attention_weights() + experts() * expert_weights()) * each +
           (ranks_ + 1) * head_bytes();  // the embedding is on every one
  }
  double cache_bytes_per_token() const {
    const double heads = std::max(number(shape_.kv_heads) / ranks_, 1.0);  // copied where there are fewer than ranks
    return number(shape_.layers) * 2 * heads * number(shape_.head_dim) * (fp8_ ? 1 : 2);
  }
  // Microseconds of a step of so many tokens, without attention itself.
  double us(double tokens) const {
    const double touched = experts() * (1 - std::pow(1 - chosen() / experts(), tokens));
    return number(shape_.layers) * (op(attention_weights(), attention_weights() * tokens) +
                                    op(touched * expert_weights(), chosen() * expert_weights() * tokens)) +
           head_bytes() / gpu_.read_tbs / 1e6;
  }
  double context_us() const { return cache_bytes_per_token() / gpu_.read_tbs / 1e6; }
  double pair_us() const {
    return 4 * number(shape_.heads) * number(shape_.head_dim) * number(shape_.layers) / ranks_ / gpu_.act_tflops / 1e6;
  }

 private:
  // Each weight read once, or two operations for each weight and token.
  double op(double weights, double products) const {
    const double bytes = weights * (fp8_ ? 1 : 2);
    return std::max(bytes / gpu_.read_tbs, 2 * products / (fp8_ ? gpu_.fp8_tflops : gpu_.act_tflops)) / 1e6;
  }

  const StepTables::Gpu& gpu_;
  const PlanShape& shape_;
  const bool fp8_;
  const double ranks_;
};

}  // namespace

bool PlanShape::operator==(const PlanShape& o) const {
  const auto sizes = [](const PlanShape& s) {
    return std::tuple(s.hidden, s.layers, s.heads, s.kv_heads, s.head_dim, s.intermediate, s.experts,
                      s.experts_per_token, s.vocab);
  };
  return sizes(*this) == sizes(o);
}

Result<PlanShape> shape_of(const ModelConfig& config) {
  const AttentionSpec& attention = config.layers.at(0).attention;
  const FeedForwardSpec& feed = config.layers.at(0).feed_forward;
  for (const LayerSpec& layer : config.layers) {
    const AttentionSpec& a = layer.attention;
    const FeedForwardSpec& f = layer.feed_forward;
    if (a.heads != attention.heads || a.kv_heads != attention.kv_heads || a.head_dim != attention.head_dim ||
        f.intermediate != feed.intermediate || f.experts != feed.experts ||
        f.experts_per_token != feed.experts_per_token) {
      return unimplemented("plan: the model's layers are not all alike");
    }
  }
  return PlanShape{config.architecture,    config.hidden,      std::ssize(config.layers), attention.heads,
                   attention.kv_heads,     attention.head_dim, feed.intermediate,         feed.experts,
                   feed.experts_per_token, config.vocab};
}

const StepTables& StepTables::built_in() {
  static const StepTables tables = [] {
    auto parsed = parse(embedded::measured_steps());
    HEARTH_CHECK(parsed.ok());
    return std::move(parsed).value();
  }();
  return tables;
}

Result<StepTables> StepTables::parse(std::string_view text) {
  HEARTH_ASSIGN(const Json json, parse_json(text));
  StepTables out;
  try {
    for (const auto& [key, gpu] : json.at("gpus").items()) {
      out.gpus_[key] = {gpu.at("name"), gpu.at("memory_gb"), gpu.at("read_tbs"), gpu.at("fp8_tflops"),
                        gpu.at("act_tflops")};
    }
    for (const auto& [key, shape] : json.at("shapes").items()) {
      out.shapes_[key] = {key,
                          shape.at("hidden"),
                          shape.at("layers"),
                          shape.at("heads"),
                          shape.at("kv_heads"),
                          shape.at("head_dim"),
                          shape.at("intermediate"),
                          shape.at("experts"),
                          shape.at("experts_per_token"),
                          shape.at("vocab")};
    }
    for (const Json& steps : json.at("steps")) {
      const auto context = steps.at("context").get<int64_t>();
      Table table{steps.at("gpu"),    steps.at("shape"),          steps.at("precision"),
                  steps.at("source"), steps.contains("composed"), {}};
      const Floors floors(out.gpus_.at(table.gpu), out.shapes_.at(table.shape), table.precision == "fp8", 1);
      for (const Json& step : steps.at("prompt_decodes_ms")) {
        StepWork work;
        for (int64_t i = 0; i < step.at(1).get<int64_t>(); ++i) work.add(context, 1);
        if (const auto prompt = step.at(0).get<int64_t>(); prompt > 0) work.add(0, prompt);
        const double attention = floors.context_us() / kContextShare * work.context_tokens +
                                 floors.pair_us() / kPromptShare * work.prompt_pairs;
        table.points.emplace_back(work.tokens, step.at(2).get<double>() * 1000 - attention);
      }
      out.tables_.push_back(std::move(table));
    }
    const Json& all_reduce = json.at("all_reduce");
    out.all_reduce_ = {all_reduce.at("gpus"), all_reduce.at("row_bytes"), all_reduce.at("rows_us")};
  } catch (const std::exception&) {
    return invalid("not a file of step times");
  }
  return out;
}

// The same precision before the same shape before the same GPU; else the one whose experts are the most alike.
const StepTables::Table& StepTables::closest(const std::string& gpu, const PlanShape& shape,
                                             const std::string& precision) const {
  return *std::ranges::min_element(tables_, {}, [&](const Table& table) {
    const PlanShape& other = shapes_.at(table.shape);
    const double experts = std::abs(std::log(number(shape.intermediate) / number(other.intermediate)));
    return std::tuple(table.precision != precision, !(other == shape), experts, table.gpu != gpu);
  });
}

double StepTables::all_reduce_us(double tokens, const PlanShape& shape, int64_t ranks) const {
  if (ranks == 1) return 0;
  // Each GPU sends and receives (T - 1) / T of the rows.
  const double share = (1 - 1 / number(ranks)) / (1 - 1 / all_reduce_.gpus);
  const double rows = tokens * 2 * number(shape.hidden) / all_reduce_.row_bytes * share;
  const auto& table = all_reduce_.rows_us;
  const auto [last, us] = table.back();
  return rows > last ? us * rows / last : between(table, rows);
}

// A table's steps are a fixed time a layer (launches and waits between kernels, what one token takes beyond its floor),
// and floors of which a share is reached that depends on the tokens.
StepTables::Times StepTables::times(const std::string& gpu, const PlanShape& shape, const std::string& precision,
                                    int64_t ranks, int64_t max_tokens) const {
  const Table& table = closest(gpu, shape, precision);
  const PlanShape& known = shapes_.at(table.shape);
  const Floors of_table(gpus_.at(table.gpu), known, table.precision == "fp8", 1);
  const Floors floors(gpus_.at(gpu), shape, precision == "fp8", ranks);
  const double fixed = std::max(table.points[0].second - of_table.us(1), 0.0) / number(known.layers);
  std::vector<std::pair<double, double>> shares;
  for (const auto& [tokens, us] : table.points) {
    shares.emplace_back(tokens, std::min(of_table.us(tokens) / (us - fixed * number(known.layers)), 1.0));
  }
  const auto estimate = [&](double tokens) {
    return floors.us(tokens) / between(shares, tokens) +
           (fixed + 2 * all_reduce_us(tokens, shape, ranks)) * number(shape.layers);
  };

  Times out;
  out.measured = table.gpu == gpu && known == shape && table.precision == precision && ranks == 1 && !table.composed;
  const bool has_table = table.gpu == gpu && known == shape && table.precision == precision && ranks == 1;
  out.basis = table.source;
  out.step.noise = 0.01;
  out.step.context_token_us = floors.context_us() / kContextShare;
  out.step.prompt_pair_us = floors.pair_us() / kPromptShare;
  out.step.points = {{0, 0.9 * estimate(1)}};
  std::vector<double> at;
  for (double tokens = 1; tokens < 2 * number(max_tokens); tokens *= 2) at.push_back(tokens);
  for (const auto& point : table.points) at.push_back(point.first);
  std::ranges::sort(at);
  at.erase(std::unique(at.begin(), at.end()), at.end());
  const double last = table.points.back().first;
  for (const double tokens : at) {
    double us = estimate(tokens);
    // Between the table's own points the estimate gives the form, the points its height.
    if (has_table && tokens <= last) {
      std::vector<std::pair<double, double>> ratios;
      for (const auto& [n, measured] : table.points) ratios.emplace_back(n, measured / estimate(n));
      us *= between(ratios, tokens);
    }
    out.step.points.emplace_back(tokens, std::max(us, out.step.points.back().second));
  }
  return out;
}

int64_t StepTables::cache_tokens(const std::string& gpu, const PlanShape& shape, const std::string& precision,
                                 int64_t ranks) const {
  const Floors floors(gpus_.at(gpu), shape, precision == "fp8", ranks);
  const double free = kMemoryShare * gpus_.at(gpu).memory_gb * 1e9 - floors.weight_bytes();
  return static_cast<int64_t>(free / floors.cache_bytes_per_token());
}

LoadResult plan_load(const PlanOptions& options, const PlanRow& row, double rate, const LatencyTargets& targets) {
  const StepTables& tables = StepTables::built_in();
  SimulatedLoad load;
  load.step_time = tables.times(options.gpu, options.shape, row.precision, row.tensor_parallel, row.step_tokens).step;
  load.engine.max_num_seqs = 256;
  load.engine.max_num_batched_tokens = row.step_tokens;
  load.engine.targets = targets;
  load.cache_tokens = tables.cache_tokens(options.gpu, options.shape, row.precision, row.tensor_parallel);
  load.rate = rate / number(row.replicas);
  load.prompt_tokens = options.input_tokens;
  load.output_tokens = options.output_tokens;
  load.warm_up = options.warm_up;
  load.seconds = options.seconds;
  LoadResult mean{};
  const double part = 1 / number(options.seeds);
  for (int64_t seed = 1; seed <= options.seeds; ++seed) {
    load.seed = static_cast<uint64_t>(seed);
    const LoadResult one = simulate_load(load);
    mean.arrived += one.arrived, mean.refused += one.refused;
    mean.ttft.p50 += one.ttft.p50 * part, mean.ttft.p99 += one.ttft.p99 * part;
    mean.latency.p50 += one.latency.p50 * part, mean.latency.p99 += one.latency.p99 * part;
  }
  return mean;
}

namespace {

// The highest rate at which `good` holds, which gets worse with the rate; to 1%.
template <typename Good>
double highest(double most, Good good) {
  double known = 0, bad = most;
  for (int i = 0; i < 9 && bad - known > 0.01 * bad; ++i) {
    const double rate = (known + bad) / 2;
    (good(rate) ? known : bad) = rate;
  }
  return known;
}

void measure(const PlanOptions& options, PlanRow& row) {
  const auto times =
      StepTables::built_in().times(options.gpu, options.shape, row.precision, row.tensor_parallel, row.step_tokens);
  row.measured = times.measured;
  row.basis = times.basis;
  // One request: its prompt in as many steps as it takes, then a token a step.
  for (int64_t done = 0; done < options.input_tokens; done += row.step_tokens) {
    StepWork work;
    work.add(done, std::min(row.step_tokens, options.input_tokens - done));
    row.alone += seconds(times.step(work));
  }
  StepWork token;
  token.add(options.input_tokens + options.output_tokens / 2, 1);
  row.alone += seconds(times.step(token)) * number(options.output_tokens - 1);
  if (row.alone >= options.target_latency) return;
  // No rate is higher than that of full steps.
  StepWork full;
  full.tokens = number(row.step_tokens);
  const double most = full.tokens / seconds(times.step(full)) / number(options.input_tokens + options.output_tokens) *
                      number(row.replicas);
  row.at_median = highest(
      1.2 * most, [&](double rate) { return plan_load(options, row, rate, {}).latency.p50 <= options.target_latency; });
  row.kept = highest(1.05 * row.at_median, [&](double rate) {
    const LoadResult result = plan_load(options, row, rate, {.latency = options.target_latency});
    return result.latency.p99 <= options.target_latency && result.refused_share() <= 0.01;
  });
}

}  // namespace

std::vector<PlanRow> make_plan(const PlanOptions& options) {
  const StepTables& tables = StepTables::built_in();
  std::vector<PlanRow> rows;
  for (int64_t ranks = 1; ranks <= options.gpus; ranks *= 2) {
    if (options.gpus % ranks != 0 || options.shape.heads % ranks != 0 || options.shape.intermediate % ranks != 0)
      continue;
    for (const std::string& precision : options.precisions) {
      size_t best = rows.size();
      for (const int64_t step : options.step_tokens) {
        PlanRow row{
            .tensor_parallel = ranks, .replicas = options.gpus / ranks, .precision = precision, .step_tokens = step};
        const int64_t cache = tables.cache_tokens(options.gpu, options.shape, precision, ranks);
        row.fits = cache >= 4 * (options.input_tokens + options.output_tokens);
        if (row.fits) measure(options, row);
        rows.push_back(row);
        if (rows.back().at_median > rows[best].at_median) best = rows.size() - 1;
      }
      PlanRow& row = rows[best];
      if (row.at_median <= 0) continue;
      row.curve.emplace_back(0, row.alone);
      for (const double share : {0.2, 0.4, 0.6, 0.75, 0.9, 1.0, 1.1}) {
        const double rate = share * row.at_median;
        row.curve.emplace_back(rate, plan_load(options, row, rate, {}).latency.p50);
      }
    }
  }
  return rows;
}

const PlanRow* best_row(const std::vector<PlanRow>& rows) {
  const auto best = std::ranges::max_element(rows, {}, &PlanRow::at_median);
  return best == rows.end() || best->at_median <= 0 ? nullptr : &*best;
}

}  // namespace hearth
