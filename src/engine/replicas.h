// Replicas: several engines of one model behind one Engine. A request goes where its forecast is best; when a replica's
// device fails, the others go on with what it had. It has no thread of its own.
#pragma once

#include <functional>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/engine.h"

namespace hearth {

// Replicas by preference, the best first; those without a forecast do not serve. `loads`: requests that each has.
using DispatchOrder = std::function<std::vector<size_t>(
    const Request& request, std::span<const std::optional<Forecast>> forecasts, std::span<const int64_t> loads)>;

// By what the request costs there: the time until it ends, and the device time for what of its prompt is not cached,
// which everybody behind it waits for. Where costs are alike, the head of the prompt decides, the same way each time.
std::vector<size_t> dispatch_by_forecast(const Request& request, std::span<const std::optional<Forecast>> forecasts,
                                         std::span<const int64_t> loads);

class Replicas final : public Engine {
 public:
  // Of one model, one shape, one EngineOptions::queue and with step times.
  Replicas(std::vector<std::unique_ptr<Engine>> engines, const Clock& clock,
           DispatchOrder order = dispatch_by_forecast);
  ~Replicas() override;

  // The request's events carry the replica's number. Where a device fails, the request starts again on another replica,
  // once; as its tokens depend on nothing else, the caller gets the rest of the same answer.
  Status submit(Request request) override;
  void cancel(const std::string& id) override;
  EngineStats stats() const override;
  std::optional<Forecast> forecast(const Request& request) const override;  // the best
  Status health() const override;
  std::vector<EngineStats> replica_stats() const override;
  std::vector<Status> replica_health() const override;
  void drain(Duration timeout) override;

  // Another engine takes a replica's place, with nothing cached. Not from on_event.
  void replace(size_t replica, std::unique_ptr<Engine> engine);

 private:
  struct Live;
  struct Replica {
    std::shared_ptr<Engine> engine;
    int64_t load = 0;       // live requests
    int64_t passed_on = 0;  // latency refusals that were not the last word
    EngineStats former;     // counters of the engines that were replaced
    bool failed = false;    // a failure was seen
  };

  std::vector<std::shared_ptr<Engine>> engines() const;
  Status dispatch(const std::shared_ptr<Live>& live);
  void deliver(const std::shared_ptr<Live>& live, RequestEvent&& event);
  bool go_on_elsewhere(const std::shared_ptr<Live>& live);

  const Clock& clock_;
  const DispatchOrder order_;
  mutable std::mutex mutex_;  // of what follows; held while no engine is called
  std::vector<Replica> replicas_;
  std::unordered_map<std::string, std::shared_ptr<Live>> live_;
  bool draining_ = false;
};

// Gauges and counters added up.
EngineStats sum(std::span<const EngineStats> stats);

}  // namespace hearth
