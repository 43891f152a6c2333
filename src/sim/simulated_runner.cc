// SimulatedRunner: attention is a fold over the slots that the block table names.
#include "sim/simulated_runner.h"

#include <algorithm>

namespace hearth {

SimulatedRunner::SimulatedRunner(const Options& options, ManualClock& clock)
    : options_(options), clock_(clock), slots_(options.limits.num_blocks * options.limits.block_size) {}

void SimulatedRunner::submit(const StepPlan& plan) {
  const RunnerLimits& limits = options_.limits;
  HEARTH_CHECK(in_flight_.size() < 2);
  HEARTH_CHECK(plan.num_tokens() > 0 && plan.num_tokens() <= limits.max_tokens);
  HEARTH_CHECK(std::ssize(plan.sequences) <= limits.max_sequences && plan.num_rows() <= limits.max_logits);
  HEARTH_CHECK(plan.num_edits() <= limits.max_edits && std::ssize(plan.edit_starts) == plan.num_rows() + 1);
  HEARTH_CHECK(limits.hold_prompts(plan));
  HEARTH_CHECK(plan.masks.size() == plan.masked_rows.size() && std::ranges::is_sorted(plan.masked_rows));
  const double noise = options_.step_time.noise * std::normal_distribution()(noise_);
  const Duration time = options_.step_time(StepWork::of(plan));
  const TimePoint begin = std::max(busy_until_, clock_.now());
  const TimePoint done =
      begin + Duration(static_cast<int64_t>(static_cast<double>(time.count()) * std::max(1 + noise, 0.5)));
  in_flight_.push_back({&plan, done, {seconds(done - begin), seconds(begin - busy_until_)}});
  busy_until_ = done;
}

StepResult SimulatedRunner::wait() {
  HEARTH_CHECK(!in_flight_.empty());
  const auto [plan, done, time] = in_flight_.front();
  in_flight_.pop_front();
  if (done > clock_.now()) clock_.advance(done - clock_.now());

  StepResult result;
  result.device_time = time;
  if (failed_ || (options_.fail_at_step > 0 && plan->step >= options_.fail_at_step)) {
    result.status = internal_error("the simulated device failed");
    return result;
  }
  const int64_t rows = plan->num_rows();
  result.tokens.resize(rows);
  result.logprobs.resize(rows);
  result.ranks.resize(rows);
  result.top_tokens.resize(rows * options_.limits.max_logprobs);
  result.top_logprobs.resize(rows * options_.limits.max_logprobs);
  if (options_.time_only) return result;
  for (const StepSequence& part : plan->sequences) run(*plan, part, result);
  previous_tokens_ = result.tokens;
  return result;
}

void SimulatedRunner::run(const StepPlan& plan, const StepSequence& part, StepResult& result) {
  const int64_t size = options_.limits.block_size;
  const int64_t num_top = options_.limits.max_logprobs;
  auto slot = [&](int64_t position) -> Slot& {
    HEARTH_CHECK(position / size < part.num_blocks);
    return slots_[plan.block_ids[part.first_block + position / size] * size + position % size];
  };
  for (int32_t i = 0; i < part.num_tokens; ++i) {
    const int32_t id = plan.token_ids[part.first_token + i];
    const int32_t token = id >= 0 ? id : previous_tokens_[-1 - id];
    slot(part.start + i) = {token, part.start + i, part.start + i >= part.prompt_len};
  }
  const int64_t end = part.start + part.num_tokens;
  const int64_t first_logits = end - part.num_rows;
  uint64_t state = FakeModel::kStart;
  for (int64_t position = 0; position < end; ++position) {
    const Slot& s = slot(position);
    state = options_.model.next_state(state, s.token, s.position, s.generated);
    if (position < first_logits) continue;
    const int64_t row = part.first_row + position - first_logits;
    HEARTH_CHECK(plan.logit_rows[row] == part.first_token + position - part.start);
    std::vector<FakeModel::Edit> edits;
    for (int32_t e = plan.edit_starts[row]; e < plan.edit_starts[row + 1]; ++e) {
      edits.push_back({plan.edit_tokens[e], plan.edit_counts[e], plan.edit_biases[e]});
    }
    const auto masked = std::ranges::lower_bound(plan.masked_rows, static_cast<int32_t>(row));
    const bool has_mask = masked != plan.masked_rows.end() && *masked == row;
    const FakeModel::Output out = options_.model.sample(
        state, plan.rows[row], edits, has_mask ? plan.masks[masked - plan.masked_rows.begin()].get() : nullptr);
    result.tokens[row] = out.token;
    result.logprobs[row] = out.logprob;
    result.ranks[row] = out.rank;
    for (int64_t k = 0; k < plan.rows[row].num_logprobs; ++k) {
      result.top_tokens[row * num_top + k] = options_.model.top_token(out.token, static_cast<int32_t>(k));
      result.top_logprobs[row * num_top + k] = out.logprob - static_cast<float>(k);
    }
  }
}

}  // namespace hearth
