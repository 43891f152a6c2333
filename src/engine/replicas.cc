// Choosing a replica, and going on after one has failed.
#include "engine/replicas.h"

#include <algorithm>
#include <cmath>

namespace hearth {

namespace {

// How much the device time that a request takes from others counts beside its own end.
constexpr double kOthers = 1;
// Costs within so much of the best are alike: of the best, and of a step.
constexpr double kAlike = 0.05, kAlikeSeconds = 0.002;
constexpr size_t kHeadTokens = 256;

uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

uint64_t head_of(const Request& request) {
  uint64_t h = std::hash<std::string_view>{}(request.cache_salt);
  const size_t count = std::min(request.prompt.size(), kHeadTokens);
  for (size_t i = 0; i < count; ++i) h = mix(h * 31 + static_cast<uint32_t>(request.prompt[i]));
  return h;
}

}  // namespace

std::vector<size_t> dispatch_by_forecast(const Request& request, std::span<const std::optional<Forecast>> forecasts,
                                         std::span<const int64_t> loads) {
  struct Candidate {
    size_t replica;
    double cost;
    uint64_t weight;  // highest random weight: an order for each head, that the loss of another replica does not change
  };
  std::vector<Candidate> candidates;
  const uint64_t head = head_of(request);
  double best = std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < forecasts.size(); ++i) {
    if (!forecasts[i]) continue;
    const double cost = forecasts[i]->end + kOthers * forecasts[i]->compute;
    candidates.push_back({i, cost, mix(head + (i + 1) * 0x9E3779B97F4A7C15ull)});
    best = std::min(best, cost);
  }
  (void)loads;
  const double alike = best + std::max(kAlike * best, kAlikeSeconds);
  std::ranges::sort(candidates, [&](const Candidate& a, const Candidate& b) {
    const bool a_alike = a.cost <= alike, b_alike = b.cost <= alike;
    if (a_alike != b_alike) return a_alike;
    return a_alike ? a.weight > b.weight : a.cost < b.cost;
  });
  std::vector<size_t> order;
  for (const Candidate& candidate : candidates) order.push_back(candidate.replica);
  return order;
}

// A request from submit() to its last event. Its events come one after another, from one engine at a time.
struct Replicas::Live {
  Request request;  // with its prompt, but without on_event
  EventSink sink;
  // Under the mutex.
  size_t replica = 0;
  bool cancelled = false;
  // Of the engine that has it.
  int64_t delivered = 0, skip = 0;  // tokens that the caller has; of those, what the engine has yet to say again
  bool prompt_logprobs_delivered = false;
  std::optional<TimePoint> first_scheduled;
};

Replicas::Replicas(std::vector<std::unique_ptr<Engine>> engines, const Clock& clock, DispatchOrder order)
    : clock_(clock), order_(std::move(order)) {
  HEARTH_CHECK(!engines.empty());
  for (auto& engine : engines) replicas_.push_back({.engine = std::move(engine)});
}

Replicas::~Replicas() { drain(Duration::zero()); }

std::vector<std::shared_ptr<Engine>> Replicas::engines() const {
  std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<Engine>> out;
  for (const Replica& replica : replicas_) out.push_back(replica.engine);
  return out;
}

Status Replicas::submit(Request request) {
  auto live = std::make_shared<Live>();
  live->sink = std::exchange(request.on_event, nullptr);
  live->request = std::move(request);
  const std::string id = live->request.id;
  {
    std::lock_guard lock(mutex_);
    if (draining_) return Status(Code::kUnavailable, "the server is shutting down");
    if (!live_.emplace(id, live).second) return invalid("a live request has this id").with_param("request_id");
  }
  Status status = dispatch(live);
  if (!status.ok()) {
    std::lock_guard lock(mutex_);
    live_.erase(id);
  }
  return status;
}

// Puts it where the order says, or where else it is taken; the error of the last one that refused, with the soonest
// time at which a replica could do better.
Status Replicas::dispatch(const std::shared_ptr<Live>& live) {
  const auto engines = this->engines();
  std::vector<std::optional<Forecast>> forecasts;
  for (const auto& engine : engines) forecasts.push_back(engine->forecast(live->request));
  std::vector<int64_t> loads;
  {
    std::lock_guard lock(mutex_);
    for (size_t i = 0; i < replicas_.size(); ++i) {
      loads.push_back(replicas_[i].load);
      if (replicas_[i].failed) forecasts[i].reset();  // it may not know yet: its last events come first
    }
  }
  Status refused(Code::kUnavailable, "the device failed");
  std::optional<size_t> refused_by;  // for a latency target
  int64_t retry_after = std::numeric_limits<int64_t>::max();
  for (const size_t i : order_(live->request, forecasts, loads)) {
    {
      std::lock_guard lock(mutex_);
      live->replica = i;
      ++replicas_[i].load;
    }
    Request request = live->request;
    request.on_event = [this, live](RequestEvent&& event) { deliver(live, std::move(event)); };
    Status status = engines[i]->submit(std::move(request));
    const bool is_late = status.code() == Code::kDeadlineExceeded;
    bool cancelled = false;
    {
      std::lock_guard lock(mutex_);
      if (refused_by && (status.ok() || is_late)) ++replicas_[*std::exchange(refused_by, std::nullopt)].passed_on;
      if (!status.ok()) --replicas_[i].load;
      cancelled = live->cancelled;
    }
    if (status.ok()) {
      if (cancelled) engines[i]->cancel(live->request.id);  // it came in between
      return {};
    }
    if (is_late) refused_by = i;
    // Of a full queue, that all share, somebody must leave first; a time of its own has each latency target.
    const bool is_full = status.code() == Code::kResourceExhausted;
    if (is_full) status = std::move(status).with_retry_after(static_cast<int64_t>(std::ceil(forecasts[i]->wait)));
    retry_after = std::min(retry_after, status.retry_after_seconds());
    refused = std::move(status);
    if (!is_late && !is_full && refused.code() != Code::kUnavailable) return refused;  // so would all others
  }
  if (refused_by || refused.code() == Code::kResourceExhausted) {
    refused = std::move(refused).with_retry_after(retry_after);
  }
  return refused;
}

void Replicas::deliver(const std::shared_ptr<Live>& live, RequestEvent&& event) {
  size_t replica = 0;
  {
    std::lock_guard lock(mutex_);
    replica = live->replica;
    if (event.finish) --replicas_[replica].load;
    if (event.device_failed) replicas_[replica].failed = true;
  }
  if (event.device_failed && go_on_elsewhere(live)) return;
  const int64_t again = std::min(live->skip, std::ssize(event.tokens));
  event.tokens.erase(event.tokens.begin(), event.tokens.begin() + again);
  live->skip -= again;
  live->delivered += std::ssize(event.tokens);
  if (!event.prompt_logprobs.empty() && std::exchange(live->prompt_logprobs_delivered, true)) {
    event.prompt_logprobs.clear();
  }
  if (!live->first_scheduled) live->first_scheduled = event.first_scheduled;
  event.first_scheduled = live->first_scheduled;
  event.replica = static_cast<int64_t>(replica);
  if (event.tokens.empty() && event.prompt_logprobs.empty() && !event.finish) return;
  if (event.finish) {
    std::lock_guard lock(mutex_);
    live_.erase(live->request.id);
  }
  live->sink(std::move(event));
}

// On the thread of the engine that failed, behind its last event of this request.
bool Replicas::go_on_elsewhere(const std::shared_ptr<Live>& live) {
  {
    std::lock_guard lock(mutex_);
    if (draining_ || live->cancelled) return false;
  }
  if (std::exchange(live->request.was_taken, true)) return false;  // perhaps it is what they fail at
  live->skip = live->delivered;
  return dispatch(live).ok();
}

void Replicas::cancel(const std::string& id) {
  std::shared_ptr<Engine> engine;
  {
    std::lock_guard lock(mutex_);
    const auto it = live_.find(id);
    if (it == live_.end()) return;
    it->second->cancelled = true;
    engine = replicas_[it->second->replica].engine;
  }
  engine->cancel(id);
}

std::optional<Forecast> Replicas::forecast(const Request& request) const {
  std::vector<std::optional<Forecast>> forecasts;
  for (const auto& engine : engines()) forecasts.push_back(engine->forecast(request));
  const auto order = dispatch_by_forecast(request, forecasts, {});
  return order.empty() ? std::nullopt : forecasts[order[0]];
}

EngineStats Replicas::stats() const {
  const auto each = replica_stats();
  return sum(each);
}

std::vector<EngineStats> Replicas::replica_stats() const {
  std::vector<EngineStats> out;
  for (const auto& engine : engines()) out.push_back(engine->stats());
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = sum(std::vector{out[i], replicas_[i].former});
    out[i].latency_refusals -= replicas_[i].passed_on;
  }
  return out;
}

std::vector<Status> Replicas::replica_health() const {
  std::vector<Status> out;
  for (const auto& engine : engines()) out.push_back(engine->health());
  return out;
}

Status Replicas::health() const {
  const std::vector<Status> each = replica_health();
  const auto healthy = std::ranges::find_if(each, [](const Status& status) { return status.ok(); });
  return healthy != each.end() ? *healthy : each[0];
}

void Replicas::drain(Duration timeout) {
  const TimePoint end = clock_.now() + timeout;
  {
    std::lock_guard lock(mutex_);
    draining_ = true;
  }
  for (const auto& engine : engines()) engine->drain(std::max(end - clock_.now(), Duration::zero()));
}

void Replicas::replace(size_t replica, std::unique_ptr<Engine> engine) {
  std::shared_ptr<Engine> old = std::move(engine);
  const EngineStats past = engines()[replica]->stats();
  std::lock_guard lock(mutex_);
  std::swap(replicas_[replica].engine, old);
  replicas_[replica].failed = false;
  EngineStats& former = replicas_[replica].former;
  former = sum(std::vector{former, past});
  former.running = former.waiting = former.blocks_total = former.blocks_used = 0;
  former.queue_is_full = false;
}

EngineStats sum(std::span<const EngineStats> stats) {
  EngineStats out;
  for (const EngineStats& one : stats) {
    out.running += one.running;
    out.waiting += one.waiting;
    out.queue_is_full |= one.queue_is_full;
    out.blocks_total += one.blocks_total;
    out.blocks_used += one.blocks_used;
    out.preemptions += one.preemptions;
    out.steps += one.steps;
    out.step_tokens += one.step_tokens;
    out.prompt_tokens += one.prompt_tokens;
    out.generation_tokens += one.generation_tokens;
    out.prefix_queries += one.prefix_queries;
    out.prefix_hits += one.prefix_hits;
    for (const auto& [bound, count] : one.tokens_per_step) out.tokens_per_step[bound] += count;
    out.latency_refusals += one.latency_refusals;
    for (const auto& [bound, count] : one.step_time_errors) out.step_time_errors[bound] += count;
    out.step_time_error_sum += one.step_time_error_sum;
    out.device_busy_seconds += one.device_busy_seconds;
    out.device_idle_seconds += one.device_idle_seconds;
  }
  return out;
}

}  // namespace hearth
