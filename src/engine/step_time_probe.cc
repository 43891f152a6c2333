// Small steps first: what is left out when the time is up are large ones, which are extrapolated and soon corrected.
#include "engine/step_time_probe.h"

#include <algorithm>
#include <optional>

#include "base/checked.h"

namespace hearth {

namespace {

constexpr double kTimeBox = 0.7;
constexpr int64_t kRuns = 2;  // the first may capture a graph or wake a clock; the shorter counts
constexpr int64_t kDecodes = 64, kFineFrom = 512;
constexpr double kAlways = 8;  // tokens of steps that are measured however long they take
constexpr int64_t kContext = 1024, kChunk = 256;

int32_t narrow(int64_t value) { return static_cast<int32_t>(value); }

// Rising, few where reading weights takes all the time, many where arithmetic overtakes that.
std::vector<int64_t> probe_sizes(int64_t max_tokens) {
  std::vector<int64_t> out;
  for (int64_t n = 1; n < max_tokens; n *= n == kDecodes ? 4 : 2) {
    for (int64_t quarter = 0; quarter < (n < kFineFrom ? 1 : 4); ++quarter) {
      if (n + n / 4 * quarter < max_tokens) out.push_back(n + n / 4 * quarter);
    }
  }
  out.push_back(max_tokens);
  return out;
}

class Probe {
 public:
  struct Sample {
    StepWork work;
    double seconds;
  };

  Probe(Runner& runner, const Clock& clock)
      : runner_(runner), limits_(runner.limits()), clock_(clock), end_(seconds(clock.now()) + kTimeBox) {}

  // Steps of `count` tokens from `start` on in each of so many sequences. None when no step holds that, or it is
  // expected to take what time is left.
  std::optional<Sample> measure(int64_t sequences, int64_t start, int64_t count) {
    const int64_t blocks = ceil_div(start + count, limits_.block_size);
    if (sequences > std::min(limits_.max_sequences, limits_.max_logits) || start + count > limits_.max_model_len ||
        blocks * sequences > limits_.num_blocks || sequences * count > limits_.max_tokens) {
      return std::nullopt;
    }
    const auto tokens = static_cast<double>(sequences * count);
    const double expected = std::max(slowest_, largest_.seconds * tokens / largest_.work.tokens);
    if (tokens > kAlways && kRuns * expected > end_ - seconds(clock_.now())) return std::nullopt;
    std::optional<Sample> best;
    for (int64_t run = 0; run < kRuns; ++run) {
      const StepPlan plan = make_plan(sequences, start, count, blocks);
      if (!limits_.hold_prompts(plan)) return std::nullopt;
      const double begin = seconds(clock_.now());
      runner_.submit(plan);
      if (!runner_.wait().status.ok()) return std::nullopt;
      const double took = seconds(clock_.now()) - begin;
      if (!best || took < best->seconds) best = {StepWork::of(plan), took};
    }
    slowest_ = std::max(slowest_, best->seconds);
    if (tokens > largest_.work.tokens) largest_ = *best;
    return best;
  }

  // One prompt of so many tokens, or as many prompts as the context makes of them.
  std::optional<Sample> measure_prompt(int64_t tokens) {
    const int64_t length = std::min({tokens, limits_.max_model_len, limits_.num_blocks * limits_.block_size});
    return measure(tokens / length, 0, length);
  }

 private:
  // As the scheduler would make it; the ids are spread over the vocabulary, so that a router sees all kinds of tokens.
  StepPlan make_plan(int64_t sequences, int64_t start, int64_t count, int64_t blocks) const {
    StepPlan plan;
    for (int64_t i = 0; i < sequences; ++i) {
      plan.sequences.push_back({.sequence = i,
                                .start = narrow(start),
                                .prompt_len = narrow(count == 1 ? start : start + count),
                                .first_token = narrow(plan.num_tokens()),
                                .num_tokens = narrow(count),
                                .first_block = narrow(i * blocks),
                                .num_blocks = narrow(blocks),
                                .first_row = narrow(i),
                                .num_rows = 1,
                                .draws = true});
      for (int64_t k = 0; k < blocks; ++k) plan.block_ids.push_back(narrow(i * blocks + k));
      for (int64_t k = 0; k < count; ++k) {
        plan.token_ids.push_back(narrow((plan.num_tokens() + 1) * 2654435761 % limits_.vocab_size));
      }
      plan.logit_rows.push_back(narrow(plan.num_tokens() - 1));
      plan.edit_starts.push_back(0);
      plan.rows.emplace_back().position = narrow(start + count);
    }
    return plan;
  }

  Runner& runner_;
  const RunnerLimits limits_;
  const Clock& clock_;
  const double end_;
  double slowest_ = 0;
  Sample largest_{{.tokens = 1}, 0};
};

}  // namespace

StepTimeModel measure_step_times(Runner& runner, const Clock& clock, int64_t max_tokens) {
  Probe(runner, clock).measure(1, 0, 1);  // warms up
  Probe probe(runner, clock);
  const RunnerLimits limits = runner.limits();
  const int64_t longest = std::min({kContext, limits.max_model_len - 1, limits.num_blocks * limits.block_size - 1});
  std::vector<Probe::Sample> samples;
  auto take = [&](const std::optional<Probe::Sample>& sample) {
    if (sample) samples.push_back(*sample);
  };
  const std::vector<int64_t> sizes = probe_sizes(max_tokens);
  const auto large = std::ranges::lower_bound(sizes, kDecodes);
  for (auto size = sizes.begin(); size != large; ++size) take(probe.measure(*size, std::min<int64_t>(longest, 1), 1));

  // What the context adds, from the same step with more and with less of it.
  auto slope = [](const auto& less, const auto& more, double StepWork::*term) {
    if (!less || !more || !(more->work.*term > less->work.*term)) return 0.0;
    return std::max(more->seconds - less->seconds, 0.0) / (more->work.*term - less->work.*term);
  };
  const int64_t readers = std::min(
      {limits.max_sequences, kDecodes, max_tokens, limits.num_blocks / ceil_div(longest + 1, limits.block_size)});
  const double per_context_token = slope(probe.measure(readers, 1, 1), probe.measure(readers, longest, 1),  //
                                         &StepWork::context_tokens);
  const int64_t chunk = std::min({kChunk, max_tokens, longest / 4});
  const double per_pair =
      chunk > 1 ? slope(probe.measure(1, 0, chunk), probe.measure(1, longest - chunk, chunk), &StepWork::prompt_pairs)
                : 0.0;

  for (auto size = large; size != sizes.end(); ++size) take(probe.measure_prompt(*size));
  if (samples.empty()) take(Probe(runner, clock).measure(1, 0, 1));

  std::vector<StepTimeModel::Knot> knots;
  for (const auto& [work, took] : samples) {
    const double attention = per_context_token * work.context_tokens + per_pair * work.prompt_pairs;
    if (knots.empty() || work.tokens > knots.back().tokens) {
      knots.push_back({work.tokens, std::max(took - attention, took / 2)});
    }
  }
  if (knots.empty()) knots.push_back({1, 0});  // the device failed, as the first step will say
  // On along the last line: what is taken for too short is soon found out, what is taken for too long never tried.
  const auto most = static_cast<double>(max_tokens);
  if (const auto last = knots.back(); last.tokens < most) {
    const auto before = knots.size() > 1 ? knots[knots.size() - 2] : StepTimeModel::Knot{0, 0};
    const double slope = std::max(last.seconds - before.seconds, 0.0) / (last.tokens - before.tokens);
    knots.push_back({most, last.seconds + slope * (most - last.tokens)});
  }
  return {std::move(knots), per_context_token, per_pair};
}

}  // namespace hearth
