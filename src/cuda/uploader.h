// Uploader: pageable host memory to the device through two pinned buffers, so that one is filled while the other is
// copied. Counts what it moved, for the log.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>

#include "base/status.h"
#include "tensor/tensor.h"

namespace hearth::cuda {

class Uploader {
 public:
  Uploader() = default;
  ~Uploader();
  Uploader(const Uploader&) = delete;
  Uploader& operator=(const Uploader&) = delete;

  Status init(cudaStream_t stream);
  // Queued on the stream; `host` may be reused on return.
  void copy(const void* host, void* device, int64_t bytes);
  // Rows of `host` a chunk at a time: `use` queues work on a chunk of them in device memory, which lasts until that
  // work is done.
  void stage(const Tensor& host, const std::function<void(const void* chunk, int64_t first_row, int64_t rows)>& use);

  // Bytes and seconds since the last call.
  struct Moved {
    int64_t bytes = 0;
    double seconds = 0;
  };
  Moved take_moved();

 private:
  struct Buffer {
    void* pinned = nullptr;
    void* staged = nullptr;
    cudaEvent_t free = nullptr;  // passed once the device has let go of both
  };
  // The next buffer, filled with these bytes.
  Buffer& fill(const void* host, int64_t bytes);

  cudaStream_t stream_ = nullptr;
  Buffer buffers_[2];
  int next_ = 0;
  Moved moved_;
};

}  // namespace hearth::cuda
