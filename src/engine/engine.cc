// Engine: EngineCore on a thread of its own, and the inbox through which other threads reach it.
#include "engine/engine.h"

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <unordered_map>
#include <unordered_set>

#include "base/log.h"
#include "engine/engine_core.h"

namespace hearth {

namespace {

// Threads that sleep until a request has a grammar.
EngineOptions with_mask_maker(EngineOptions options) {
  constexpr int kThreads = 4;
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  if (options.mask_maker == nullptr)
    options.mask_maker = std::make_shared<MaskMaker>(std::clamp(cores / 2, 1, kThreads));
  return options;
}

void log_step_times(const StepTimeModel& model) {
  std::string line = "steps take";
  for (const auto& [tokens, seconds] : model.knots()) {
    line += cat(tokens > model.knots()[0].tokens ? ", " : " ", std::round(seconds * 1e4) / 10, " ms at ", tokens);
  }
  log_info(line, " tokens");
}

class ThreadedEngine final : public Engine {
 public:
  ThreadedEngine(std::unique_ptr<Runner> runner, const EngineOptions& options, const Clock& clock)
      : clock_(clock), core_(std::move(runner), with_mask_maker(options), clock), stats_(core_.scheduler().stats()) {
    const StepTimeModel* model = core_.scheduler().step_times();
    if (model != nullptr && !options.step_times) log_step_times(*model);
    thread_ = std::thread([this] { run(); });
  }

  ~ThreadedEngine() override {
    drain(Duration::zero());
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }

  Status submit(Request request) override {
    std::lock_guard accepting(accept_mutex_);
    const std::string id = request.id;
    {
      std::lock_guard lock(mutex_);
      if (draining_) return Status(Code::kUnavailable, "the server is shutting down");
      if (!live_.try_emplace(id).second) return invalid("a live request has this id").with_param("request_id");
    }
    Status accepted = core_.scheduler().accept(request, clock_.now());
    {
      std::lock_guard lock(mutex_);
      if (accepted.ok() && !health_.ok()) {
        core_.scheduler().withdraw(request);
        accepted = Status(Code::kUnavailable, "the device failed");
      }
      if (!accepted.ok()) {
        live_.erase(id);
        cancels_.erase(id);
        return accepted;
      }
      if (draining_) cancels_.insert(id);  // drain() came in between
      ++unanswered_;
      const auto sink = std::make_shared<const EventSink>(std::move(request.on_event));
      live_[id] = sink;
      request.on_event = [this, id, sink](RequestEvent&& event) { deliver(id, *sink, std::move(event)); };
      submits_.push_back(std::move(request));
    }
    wake_.notify_one();
    return {};
  }

  void cancel(const std::string& id) override {
    {
      std::lock_guard lock(mutex_);
      if (!live_.contains(id)) return;
      cancels_.insert(id);
    }
    wake_.notify_one();
  }

  EngineStats stats() const override {
    std::lock_guard lock(mutex_);
    EngineStats stats = stats_;
    stats.waiting += std::ssize(submits_);
    stats.queue_is_full = core_.scheduler().queue_is_full();
    stats.latency_refusals = core_.scheduler().latency_refusals();  // idle, the snapshot would be old
    return stats;
  }

  std::optional<Forecast> forecast(const Request& request) const override {
    {
      std::lock_guard lock(mutex_);
      if (draining_ || !health_.ok()) return std::nullopt;
    }
    return core_.scheduler().forecast(request, clock_.now());
  }

  Status health() const override {
    std::lock_guard lock(mutex_);
    return health_;
  }

  void drain(Duration timeout) override {
    std::unique_lock lock(mutex_);
    draining_ = true;
    auto all_ended = [this] { return unanswered_ == 0; };
    if (idle_.wait_for(lock, timeout, all_ended)) return;
    for (const auto& [id, sink] : live_) cancels_.insert(id);
    wake_.notify_one();
    idle_.wait(lock, all_ended);
  }

 private:
  using Live = std::unordered_map<std::string, std::shared_ptr<const EventSink>>;

  void deliver(const std::string& id, const EventSink& sink, RequestEvent&& event) {
    if (!event.finish) return sink(std::move(event));
    Live::node_type node;
    {
      std::lock_guard lock(mutex_);
      node = live_.extract(id);
      cancels_.erase(id);
    }
    try {
      sink(std::move(event));
    } catch (const std::bad_alloc&) {
      std::lock_guard lock(mutex_);
      if (node) live_.insert(std::move(node));  // still without its last event
      throw;
    }
    std::lock_guard lock(mutex_);
    if (--unanswered_ == 0) idle_.notify_all();
  }

  void run() {
    try {
      serve();
    } catch (const std::bad_alloc&) {
      // In the middle of anything: the scheduler is not asked any more.
      const Status status = internal_error("the engine ran out of memory");
      {
        std::lock_guard lock(mutex_);
        health_ = status;
        submits_.clear();
      }
      fail_live(status);
    }
  }

  // Tells each request that has had no last event. What others free makes room, so it is tried until it succeeds.
  void fail_live(const Status& status) {
    while (true) {
      try {
        std::pair<std::string, std::shared_ptr<const EventSink>> next;
        {
          std::lock_guard lock(mutex_);
          const auto accepted = std::ranges::find_if(live_, [](const auto& one) { return one.second != nullptr; });
          if (accepted == live_.end()) return;
          next = *accepted;
        }
        RequestEvent event;
        event.finish = FinishReason::kError;
        event.error = status;
        event.device_failed = true;
        deliver(next.first, *next.second, std::move(event));
      } catch (const std::bad_alloc&) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      }
    }
  }

  void serve() {
    Scheduler& scheduler = core_.scheduler();
    Status status;
    while (status.ok()) {
      std::vector<Request> submits;
      std::unordered_set<std::string> cancels;
      {
        std::unique_lock lock(mutex_);
        stats_ = scheduler.stats();
        // With nothing to do every block is back: a leak shows here first.
        if (!scheduler.has_work()) HEARTH_CHECK(scheduler.pool().used() == 0);
        wake_.wait(lock, [&] { return stopping_ || !submits_.empty() || !cancels_.empty() || scheduler.has_work(); });
        // Who arrives while a step runs is in the next one.
        wake_.wait_for(lock, core_.patience(), [&] { return stopping_; });
        if (stopping_) return;
        submits.swap(submits_);
        cancels.swap(cancels_);
      }
      for (Request& request : submits) scheduler.add(std::move(request));
      for (const std::string& id : cancels) scheduler.cancel(id);
      status = core_.step();
    }
    // The device is gone, and the core has told everybody it knew of. From here on submit() refuses.
    std::vector<Request> submits;
    {
      std::lock_guard lock(mutex_);
      health_ = status;
      submits.swap(submits_);
    }
    for (Request& request : submits) scheduler.add(std::move(request));
    scheduler.fail_all(status);
    std::lock_guard lock(mutex_);
    stats_ = scheduler.stats();
  }

  const Clock& clock_;
  EngineCore core_;  // the engine's thread alone, but for Scheduler::accept

  // Of submit() alone. A forecast may take longer than a step, so the engine's thread must not wait for it; and who is
  // accepted first is the first in the inbox.
  std::mutex accept_mutex_;
  mutable std::mutex mutex_;
  std::condition_variable wake_, idle_;
  // The inbox; bounded by the scheduler's queue, and by the live requests.
  std::vector<Request> submits_;
  std::unordered_set<std::string> cancels_;
  Live live_;               // from submit() to the last event; without a sink until it is accepted
  int64_t unanswered_ = 0;  // of whose last event the caller has not returned
  bool draining_ = false, stopping_ = false;
  Status health_;
  EngineStats stats_;

  std::thread thread_;
};

}  // namespace

std::unique_ptr<Engine> make_engine(std::unique_ptr<Runner> runner, const EngineOptions& options, const Clock& clock) {
  return std::make_unique<ThreadedEngine>(std::move(runner), options, clock);
}

}  // namespace hearth
