// Events as nodes of the graph.
#include "cuda/op_timer.h"

#include <algorithm>

#include "cuda/check.h"

namespace hearth::cuda {

OpTimer::~OpTimer() {
  for (cudaEvent_t event : events_) cudaEventDestroy(event);
}

void OpTimer::record(cudaStream_t stream) {
  cudaEvent_t event;
  HEARTH_CUDA_CHECK(cudaEventCreate(&event));
  events_.push_back(event);
  // External: the event is recorded anew by every replay, and can be read outside the graph.
  HEARTH_CUDA_CHECK(cudaEventRecordWithFlags(event, stream, cudaEventRecordExternal));
}

void OpTimer::finished(const OpTime& op, cudaStream_t stream) {
  ops_.push_back(op);
  measured_.emplace_back();
  record(stream);
}

void OpTimer::read() {
  for (size_t i = 0; i < ops_.size(); ++i) {
    float milliseconds = 0;
    HEARTH_CUDA_CHECK(cudaEventElapsedTime(&milliseconds, events_[i], events_[i + 1]));
    measured_[i].push_back(milliseconds);
  }
}

std::vector<OpTime> OpTimer::times() const {
  std::vector<OpTime> out = ops_;
  for (size_t i = 0; i < out.size(); ++i) {
    std::vector<float> sorted = measured_[i];
    std::ranges::sort(sorted);
    if (!sorted.empty()) out[i].seconds = sorted[sorted.size() / 2] * 1e-3;
  }
  return out;
}

}  // namespace hearth::cuda
