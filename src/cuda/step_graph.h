// StepGraph: a step captured once and launched often, with the time at which each launch began and ended on the device.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <memory>

#include "base/status.h"

namespace hearth::cuda {

class StepGraph {
 public:
  // Recorded by a launch before its first op and after its last.
  struct Events {
    cudaEvent_t begin = nullptr, end = nullptr;
  };

  // Captures what `record` puts on the stream. `events` as for launch(). Not ok where memory is short, or the device
  // has failed.
  static Result<std::unique_ptr<StepGraph>> capture(cudaStream_t stream, const std::function<void()>& record,
                                                    const Events& events);
  ~StepGraph();
  StepGraph(const StepGraph&) = delete;
  StepGraph& operator=(const StepGraph&) = delete;

  // Every launch may have events of its own: the next may be queued before those of the last are read.
  Status launch(cudaStream_t stream, const Events& events);

 private:
  StepGraph() = default;
  cudaGraph_t graph_ = nullptr;  // its nodes name those of the copy that runs
  cudaGraphExec_t replay_ = nullptr;
  cudaGraphNode_t begin_ = nullptr, end_ = nullptr;
};

// Seconds between two events that have passed.
Result<double> seconds_between(cudaEvent_t from, cudaEvent_t to);

}  // namespace hearth::cuda
