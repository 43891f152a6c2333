// Construction of the CPU's ops and their scratch memory.
#include "cpu/cpu_ops.h"

namespace hearth {

float* ScratchBuffer::reserve(int64_t floats) {
  if (floats > size_) {
    size_ = ceil_div(floats, 16) * 16;
    data_.reset(static_cast<float*>(std::aligned_alloc(64, static_cast<size_t>(size_) * sizeof(float))));
    HEARTH_CHECK(data_ != nullptr);
  }
  return data_.get();
}

CpuOps::CpuOps(int threads, Communicator* comm)
    : pool_(threads), comm_(comm), scratch_(static_cast<size_t>(pool_.size())) {}

}  // namespace hearth
