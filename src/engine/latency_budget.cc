// Times of steps in flight, what answers and prompts are expected to be, and the refusal.
#include "engine/latency_budget.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace hearth {

namespace {

constexpr double kRate = 0.05;  // of what follows the traffic
// The expected length of an answer: it rises by a tenth or falls by a hundredth with each that is longer or shorter,
// and so settles where a tenth of them are longer.
constexpr double kFirstOutput = 256, kRise = 1.1, kFall = 0.99;

constexpr double kTrialEvery = 10;  // seconds
constexpr double kForever = std::numeric_limits<double>::infinity();

void follow(std::atomic<double>& mean, double value) { mean = mean + kRate * (value - mean); }

}  // namespace

LatencyBudget::LatencyBudget(const LatencyTargets& targets, const LatencyPolicy::Limits& limits, StepTimeModel model,
                             bool keeps_targets)
    : keeps_targets_(keeps_targets),
      policy_(targets, limits),
      model_(std::move(model)),
      output_(kFirstOutput),
      published_{{}, model_} {}

Progress LatencyBudget::newcomer(const Request& request, int64_t to_compute, int64_t max_output) const {
  Progress out;
  out.arrival = seconds(request.arrival);
  out.computed = std::ssize(request.prompt) - to_compute;
  out.to_compute = to_compute;
  out.output_left = expected_output(request.sampling, 0, max_output);
  out.cache_tokens = std::ssize(request.prompt);
  out.due = due(request, max_output);
  out.priority = request.priority;
  out.own = own_targets(request);
  return out;
}

Forecast LatencyBudget::forecast(const Request& request, int64_t cached, int64_t max_output, TimePoint now) const {
  const int64_t to_compute = std::max<int64_t>(std::ssize(request.prompt) - cached, 1);
  Published published = [this] {
    std::lock_guard lock(mutex_);
    return published_;
  }();
  Outlook& outlook = published.outlook;
  const double time = seconds(now);
  outlook.start = std::max(outlook.start, time);
  const size_t at = outlook.running.size() + outlook.enqueue(newcomer(request, to_compute, max_output));
  const LatencyPolicy::Fate fate = policy_.forecast(published.model, std::move(outlook), at)[at];
  const StepTimeModel::Knot full = published.model.knots().back();
  return {.wait = fate.started.value_or(time) - time,
          .end = fate.end.value_or(time) - time,
          .compute = full.seconds / full.tokens * static_cast<double>(to_compute)};
}

Status LatencyBudget::accept(const Request& request, int64_t max_output, TimePoint now) {
  const Progress newcomer = this->newcomer(request, expected_prompt(std::ssize(request.prompt)), max_output);
  if (!keeps_targets_ || request.was_taken) {
    std::lock_guard lock(mutex_);
    accepted_.push_back(newcomer);
    published_.outlook.enqueue(newcomer);
    return {};
  }
  const LatencyTargets targets = policy_.effective(newcomer.own);
  const double time = seconds(now);
  Published published = [this] {
    std::lock_guard lock(mutex_);
    return published_;
  }();
  Outlook& outlook = published.outlook;
  outlook.start = std::max(outlook.start, time);
  std::optional<double> used = policy_.refusal(published.model, outlook, newcomer);
  // Where no steps are made a wrong forecast is never corrected: so who comes to an idle server may try, now and then.
  const bool hopeless = time - newcomer.arrival > std::min(targets.ttft > 0 ? targets.ttft : kForever,
                                                           targets.latency > 0 ? targets.latency : kForever);
  if (used && !hopeless && outlook.running.empty() && outlook.waiting.empty() && time >= next_trial_) {
    next_trial_ = time + kTrialEvery;
    used.reset();
  }
  if (!used) {
    std::lock_guard lock(mutex_);
    accepted_.push_back(newcomer);
    published_.outlook.enqueue(newcomer);
    return {};
  }
  ++refused_;
  const std::string why = *used > 0 ? cat("this request would use ", std::ceil(*used * 100), "% of one")
                                    : std::string("others would miss them with this request");
  // The queue is never longer than the targets.
  const double wait = std::clamp(*used - 1, 0.0, 1.0) * std::max(targets.ttft, targets.latency);
  return Status(Code::kDeadlineExceeded, cat("too busy to keep the latency targets: ", why))
      .with_retry_after(static_cast<int64_t>(std::ceil(wait)));
}

double LatencyBudget::due(const Request& request, int64_t max_output) const {
  const int64_t output = expected_output(request.sampling, 0, max_output);
  return policy_.due(seconds(request.arrival), output, mean_step_, own_targets(request));
}

LatencyTargets LatencyBudget::own_targets(const Request& request) const {
  if (!keeps_targets_) return {};
  LatencyTargets out = request.targets;
  if (request.deadline) {
    const double left = std::max(seconds(*request.deadline - request.arrival), 1e-9);
    out.latency = out.latency > 0 ? std::min(out.latency, left) : left;
  }
  return out;
}

int64_t LatencyBudget::expected_output(const SamplingParams& sampling, int64_t generated, int64_t max_output) const {
  int64_t left = max_output - generated;
  if (!sampling.ignore_eos) left = std::min(left, static_cast<int64_t>(output_) - generated);
  return std::max<int64_t>(left, 1);
}

int64_t LatencyBudget::expected_prompt(int64_t prompt_len) const {
  return std::max<int64_t>(static_cast<int64_t>(uncached_ * static_cast<double>(prompt_len)), 1);
}

double LatencyBudget::next_start(TimePoint now) const {
  double end = seconds(last_completed_);
  for (const InFlight& step : in_flight_) end = std::max(end, seconds(step.submitted)) + model_.predict(step.work);
  return std::max(end, seconds(now));
}

void LatencyBudget::submitted(const StepPlan& plan, TimePoint now) { in_flight_.push_back({StepWork::of(plan), now}); }

// A step begins when it was submitted or when the one before it ended.
void LatencyBudget::completed(TimePoint now) {
  const InFlight step = in_flight_.front();
  in_flight_.pop_front();
  const double took = seconds(now - std::max(step.submitted, last_completed_));
  last_completed_ = now;
  const double predicted = model_.predict(step.work);
  model_.observe(step.work, took);
  mean_step_ > 0 ? follow(mean_step_, took) : mean_step_.store(took);
  if (!(took > 0)) return;
  const double percent = std::min(std::abs(predicted / took - 1) * 100, 1e6);
  ++errors_[static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::ceil(percent))))];
  error_sum_ += percent;
}

void LatencyBudget::admitted(int64_t prompt_len, int64_t cached) {
  follow(uncached_, static_cast<double>(prompt_len - cached) / static_cast<double>(prompt_len));
}

void LatencyBudget::ended(int64_t generated, bool by_itself) {
  const bool longer = static_cast<double>(generated) >= output_;
  // One that max_tokens cut short says nothing.
  if (longer || by_itself) output_ = std::max(output_ * (longer ? kRise : kFall), 1.0);
}

void LatencyBudget::publish(Outlook outlook, TimePoint now) {
  outlook.start = next_start(now);
  if (!outlook.running.empty()) outlook.mean_step = mean_step_;
  std::lock_guard lock(mutex_);
  accepted_.erase(accepted_.begin(), accepted_.begin() + joined_);
  joined_ = 0;
  for (const Progress& newcomer : accepted_) outlook.enqueue(newcomer);
  published_ = {std::move(outlook), model_};
}

void LatencyBudget::add_to(EngineStats& stats) const {
  stats.latency_refusals = refused_;
  stats.step_time_errors = errors_;
  stats.step_time_error_sum = error_sum_;
}

}  // namespace hearth
