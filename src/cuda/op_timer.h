// OpTimer: times each op of a captured step by events between them.
#pragma once

#include <cuda_runtime_api.h>

#include <vector>

#include "ops/backend.h"

namespace hearth::cuda {

class OpTimer {
 public:
  OpTimer() = default;
  ~OpTimer();
  OpTimer(const OpTimer&) = delete;
  OpTimer& operator=(const OpTimer&) = delete;

  // During capture: before the first op, then after each.
  void begin(cudaStream_t stream) { record(stream); }
  void finished(const OpTime& op, cudaStream_t stream);
  // The graph has run `runs` times, read() after each; then times() has the medians.
  void read();
  std::vector<OpTime> times() const;

 private:
  void record(cudaStream_t stream);

  std::vector<OpTime> ops_;
  std::vector<cudaEvent_t> events_;           // one more than ops
  std::vector<std::vector<float>> measured_;  // milliseconds, by op
};

}  // namespace hearth::cuda
