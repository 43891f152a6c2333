// Pace of those who generate, and a forecast of everybody's end.
#include "engine/latency_policy.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace hearth {

namespace {

// Plans aim below the targets by what a forecast may err, and a newcomer's lies below what others are protected at:
// else one who is late by a little would keep everybody out.
constexpr double kMargin = 0.95, kProtected = 0.98;
// Tokens over which a sequence spends or makes up what it is ahead or behind of its time per token.
constexpr int64_t kHorizon = 16;
constexpr double kEfficient = 0.9;
constexpr int64_t kMaxForecastSteps = 512;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

}  // namespace

size_t Outlook::enqueue(const Progress& newcomer) {
  auto goes_before = [](const Progress& a, const Progress& b) {
    return a.priority != b.priority ? a.priority < b.priority : a.due < b.due;
  };
  const auto at = std::ranges::upper_bound(waiting, newcomer, goes_before) - waiting.begin();
  waiting.insert(waiting.begin() + at, newcomer);
  return static_cast<size_t>(at);
}

LatencyTargets LatencyPolicy::effective(const LatencyTargets& own) const {
  LatencyTargets out = targets_;
  if (own.ttft > 0) out.ttft = own.ttft;
  if (own.tpot > 0) out.tpot = own.tpot;
  if (own.latency > 0 && !(targets_.latency > 0 && targets_.latency < own.latency)) out.latency = own.latency;
  return out;
}

double LatencyPolicy::due(double arrival, int64_t output, double mean_step, const LatencyTargets& own) const {
  const LatencyTargets targets = effective(own);
  double due = kInfinity;
  if (targets.ttft > 0) due = arrival + targets.ttft;
  if (targets.latency > 0) {
    due = std::min(due, arrival + std::max(targets.latency - mean_step * static_cast<double>(output), 0.0));
  }
  return due;
}

// Seconds that steps from `start` on may take for this one's sake. One that is late even if they all take the `least`
// there is asks for nothing: it would only hold up the others.
double LatencyPolicy::tpot_pace(const Progress& progress, double start, double least) const {
  const auto left = static_cast<double>(std::max<int64_t>(progress.output_left, 1));
  const auto gaps = static_cast<double>(progress.generated - 1);
  const double before = progress.first_token.value_or(start) - start;
  const double tpot = effective(progress.own).tpot;
  if (tpot <= 0 || before + tpot * (gaps + left) < least * left) return kInfinity;
  const double ahead = std::min<double>(left, kHorizon);
  return (before + kMargin * tpot * (gaps + ahead)) / ahead;
}

double LatencyPolicy::latency_pace(const Progress& progress, double start, double least) const {
  const auto left = static_cast<double>(std::max<int64_t>(progress.output_left, 1));
  const double before = progress.arrival - start;
  const double latency = effective(progress.own).latency;
  if (latency <= 0 || before + latency < least * left) return kInfinity;
  return (before + kMargin * latency) / left;
}

// The smallest step that computes prompts nearly as fast as any.
int64_t LatencyPolicy::efficient_tokens(const StepTimeModel& model, const StepWork& decodes) const {
  auto speed = [&](const StepTimeModel::Knot& knot) {
    StepWork work = decodes;
    work.tokens = knot.tokens;
    return (knot.tokens - decodes.tokens) / model.predict(work);
  };
  const double best = speed(std::ranges::max(model.knots(), {}, speed));
  return static_cast<int64_t>(
      std::ranges::find_if(model.knots(), [&](auto& knot) { return speed(knot) >= kEfficient * best; })->tokens);
}

int64_t LatencyPolicy::token_budget(const StepTimeModel& model, std::span<const Progress> running, double start) const {
  StepWork decodes;
  int64_t chunk_start = 0;
  for (const Progress& progress : running) {
    if (progress.to_compute == 1) decodes.add(progress.computed, 1);
    if (progress.to_compute > 1 && chunk_start == 0) chunk_start = progress.computed;
  }
  const double least = model.predict(decodes);
  double tpot_limit = kInfinity, latency_limit = kInfinity;
  for (const Progress& progress : running) {
    if (progress.to_compute != 1) continue;
    tpot_limit = std::min(tpot_limit, tpot_pace(progress, start, least));
    latency_limit = std::min(latency_limit, latency_pace(progress, start, least));
  }
  const auto fewest = static_cast<int64_t>(decodes.tokens);
  auto largest_within = [&](double limit) {
    int64_t most = limits_.max_tokens, known = std::min(fewest, most);  // the answer is in [known, most]
    for (int64_t tokens = most; known < most; tokens = (known + most + 1) / 2) {
      StepWork work = decodes;
      work.add(chunk_start, tokens - fewest);
      model.predict(work) <= limit ? known = tokens : most = tokens - 1;
    }
    return known;
  };
  // To hurry those who are late with smaller steps than this would make more late behind them than it saves.
  int64_t budget = largest_within(latency_limit);
  if (budget < limits_.max_tokens) budget = std::max(budget, efficient_tokens(model, decodes));
  return tpot_limit < kInfinity ? std::min(budget, largest_within(tpot_limit)) : budget;
}

std::vector<LatencyPolicy::Fate> LatencyPolicy::forecast(const StepTimeModel& model, Outlook outlook,
                                                         std::optional<size_t> until) const {
  std::vector<Progress>& running = outlook.running;
  std::vector<Fate> fates(running.size() + outlook.waiting.size());
  std::vector<size_t> index(running.size());  // of `running`, in `fates`
  std::iota(index.begin(), index.end(), 0);
  size_t next = 0;  // in the queue
  double now = outlook.start;
  // Others will come, and make steps as long as they were of late; but no longer than the time per token allows.
  double shortest = outlook.mean_step;
  const auto bound_by = [&](const Progress& progress) {
    const double tpot = effective(progress.own).tpot;
    if (tpot > 0) shortest = std::min(shortest, kMargin * kMargin * tpot);
  };
  bound_by({});
  std::ranges::for_each(running, bound_by);
  std::ranges::for_each(outlook.waiting, bound_by);
  for (Progress& progress : running) {
    if (progress.generated > 0 && !progress.first_token) progress.first_token = now;
  }
  auto note = [&](size_t i, double time, double target) {
    double& used = fates[index[i]].used;
    if (target > 0) used = std::max(used, time / target);
  };

  const auto more = [&] { return running.size() + outlook.waiting.size() > next && !(until && fates[*until].end); };
  for (int64_t step = 0; step < kMaxForecastSteps && more(); ++step) {
    int64_t budget = token_budget(model, running, now);
    StepWork work;
    std::vector<int64_t> counts(running.size());
    auto compute = [&](size_t i, int64_t count) {
      counts[i] = count;
      budget -= count;
      if (count > 0) work.add(running[i].computed, count);
    };
    int64_t repeat = std::numeric_limits<int64_t>::max();
    for (size_t i = 0; i < running.size(); ++i) {
      if (running[i].to_compute == 1 && budget > 0) compute(i, 1);
      repeat = std::min(repeat, running[i].output_left);
    }
    // While nobody's prompt is computed, nor waits for the budget alone, steps are alike until somebody ends.
    const bool can_admit = next < outlook.waiting.size() && std::ssize(running) < limits_.max_sequences;
    bool prompts = can_admit && budget <= 0;
    for (size_t i = 0; i < running.size(); ++i) {
      if (running[i].to_compute > 1) {
        prompts = true;
        compute(i, std::min(running[i].to_compute, std::max<int64_t>(budget, 0)));
      }
    }
    while (budget > 0 && next < outlook.waiting.size() && std::ssize(running) < limits_.max_sequences &&
           (running.empty() || outlook.waiting[next].cache_tokens <= outlook.cache_room)) {
      prompts = true;
      outlook.cache_room -= outlook.waiting[next].cache_tokens;
      running.push_back(outlook.waiting[next]);
      index.push_back(fates.size() - outlook.waiting.size() + next++);
      fates[index.back()].started = now;
      counts.push_back(0);
      compute(running.size() - 1, std::min(running.back().to_compute, budget));
    }
    if (!(work.tokens > 0)) break;
    if (prompts || repeat < 1) repeat = 1;
    work.context_tokens += work.tokens * static_cast<double>(repeat - 1) / 2;
    now += std::max(model.predict(work), shortest) * static_cast<double>(repeat);

    size_t kept = 0;
    for (size_t i = 0; i < running.size(); ++i) {
      Progress& progress = running[i];
      progress.computed += counts[i] * repeat;
      progress.to_compute -= counts[i];
      if (progress.to_compute == 0 && counts[i] > 0) {
        progress.to_compute = 1;
        progress.generated += repeat;
        progress.output_left -= repeat;
        if (!progress.first_token) {
          progress.first_token = now;
          note(i, now - progress.arrival, effective(progress.own).ttft);
        }
      }
      if (progress.output_left <= 0) {
        fates[index[i]].end = now;
        note(i, now - progress.arrival, effective(progress.own).latency);
        if (progress.generated > 1) {
          note(i, (now - *progress.first_token) / static_cast<double>(progress.generated - 1),
               effective(progress.own).tpot);
        }
        outlook.cache_room += progress.cache_tokens;
      } else {
        index[kept] = index[i];
        if (kept != i) running[kept] = progress;
        ++kept;
      }
    }
    running.resize(kept);
    index.resize(kept);
  }
  if (until && !fates[*until].end) {
    // At the pace of full steps, as if nobody came in between.
    double tokens = 0, draws = 0;
    for (const Progress& progress : running) tokens += static_cast<double>(progress.to_compute);
    for (size_t i = next; i < outlook.waiting.size(); ++i) {
      if (fates.size() - outlook.waiting.size() + i > *until) break;
      tokens += static_cast<double>(outlook.waiting[i].to_compute);
      draws = static_cast<double>(outlook.waiting[i].output_left);
    }
    for (size_t i = 0; i < running.size(); ++i) {
      if (index[i] == *until) draws = static_cast<double>(running[i].output_left);
    }
    const auto most = static_cast<double>(limits_.max_tokens);
    const double full = model.predict({.tokens = most});
    Fate& fate = fates[*until];
    if (!fate.started) fate.started = now + full * tokens / most;
    fate.end =
        std::max(now + full * tokens / most, *fate.started) + std::max(shortest, model.predict({.tokens = 1})) * draws;
  }
  return fates;
}

std::optional<double> LatencyPolicy::refusal(const StepTimeModel& model, const Outlook& outlook,
                                             const Progress& newcomer) const {
  Outlook joined = outlook;
  const size_t at = outlook.running.size() + joined.enqueue(newcomer);
  const std::vector<Fate> with = forecast(model, std::move(joined));
  if (with[at].used > kMargin) return with[at].used;
  if (std::ranges::all_of(with, [](const Fate& fate) { return fate.used <= kProtected; })) return std::nullopt;
  // Somebody is about to be late: because of the newcomer, or anyhow?
  const std::vector<Fate> without = forecast(model, outlook);
  for (size_t i = 0; i < without.size(); ++i) {
    const double used = with[i < at ? i : i + 1].used;
    if (used > kProtected && without[i].used <= 1 && used > without[i].used + 1e-3) return 0.0;
  }
  return std::nullopt;
}

}  // namespace hearth
