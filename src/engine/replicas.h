// Replicas: several engines of one model behind one Engine. A request goes to the replica with the best forecast. When
// a replica's device fails, the others take over its requests. Replicas has no thread of its own.
#pragma once

#include <functional>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/engine.h"

namespace hearth {

// Replicas in order of preference. A replica without a forecast does not serve. `loads`: live requests of each replica.
using DispatchOrder = std::function<std::vector<size_t>(
    const Request& request, std::span<const std::optional<Forecast>> forecasts, std::span<const int64_t> loads)>;

// By the request's cost there: the time until it ends, plus the device time for the uncached part of its prompt, since
// later requests wait for that. If costs are nearly equal, the beginning of the prompt decides, the same way each time.
std::vector<size_t> dispatch_by_forecast(const Request& request, std::span<const std::optional<Forecast>> forecasts,
                                         std::span<const int64_t> loads);

class Replicas final : public Engine {
 public:
  // The engines serve one model with the same options, share one EngineOptions::queue, and know their step times.
  Replicas(std::vector<std::unique_ptr<Engine>> engines, const Clock& clock,
           DispatchOrder order = dispatch_by_forecast);
  ~Replicas() override;

  // The request's events carry the replica's number. If its device fails, the request starts again on another replica,
  // once. Its tokens depend on nothing but the request, so the caller gets the rest of the same answer.
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
    int64_t passed_on = 0;  // requests that it refused for latency and another replica was asked for
    EngineStats former;     // counters of the engines that were replaced
    bool failed = false;    // a failure was seen
  };

  std::vector<std::shared_ptr<Engine>> engines() const;
  Status dispatch(const std::shared_ptr<Live>& live);
  void deliver(const std::shared_ptr<Live>& live, RequestEvent&& event);
  bool go_on_elsewhere(const std::shared_ptr<Live>& live);

  const Clock& clock_;
  const DispatchOrder order_;
  mutable std::mutex mutex_;  // guards the members below; never held while an engine is called
  std::vector<Replica> replicas_;
  std::unordered_map<std::string, std::shared_ptr<Live>> live_;
  bool draining_ = false;
};

// The sum of all gauges and counters.
EngineStats sum(std::span<const EngineStats> stats);

}  // namespace hearth
