// The double buffer behind uploads.
#include "cuda/uploader.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "cuda/check.h"

namespace hearth::cuda {
namespace {

constexpr int64_t kBufferBytes = int64_t{64} << 20;

}  // namespace

Status Uploader::init(cudaStream_t stream) {
  stream_ = stream;
  for (Buffer& b : buffers_) {
    HEARTH_TRY(cuda_status(cudaMallocHost(&b.pinned, kBufferBytes), "pinned memory for uploads"));
    HEARTH_TRY(cuda_status(cudaMalloc(&b.staged, kBufferBytes), "staging memory for uploads"));
    HEARTH_TRY(cuda_status(cudaEventCreateWithFlags(&b.free, cudaEventDisableTiming), "an event"));
  }
  return {};
}

Uploader::~Uploader() {
  for (const Buffer& b : buffers_) {
    if (b.free) cudaEventDestroy(b.free);
    cudaFree(b.staged);
    cudaFreeHost(b.pinned);
  }
}

Uploader::Buffer& Uploader::fill(const void* host, int64_t bytes) {
  Buffer& b = buffers_[next_];
  next_ ^= 1;
  HEARTH_CUDA_CHECK(cudaEventSynchronize(b.free));
  std::memcpy(b.pinned, host, static_cast<size_t>(bytes));
  moved_.bytes += bytes;
  return b;
}

void Uploader::copy(const void* host, void* device, int64_t bytes) {
  const auto start = std::chrono::steady_clock::now();
  for (int64_t at = 0; at < bytes; at += kBufferBytes) {
    const int64_t n = std::min(kBufferBytes, bytes - at);
    const Buffer& b = fill(static_cast<const char*>(host) + at, n);
    HEARTH_CUDA_CHECK(cudaMemcpyAsync(static_cast<char*>(device) + at, b.pinned, static_cast<size_t>(n),
                                      cudaMemcpyHostToDevice, stream_));
    HEARTH_CUDA_CHECK(cudaEventRecord(b.free, stream_));
  }
  moved_.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void Uploader::stage(const Tensor& host,
                     const std::function<void(const void* chunk, int64_t first_row, int64_t rows)>& use) {
  const auto start = std::chrono::steady_clock::now();
  const int64_t rows = host.dim(0);
  const int64_t row_bytes = rows == 0 ? 1 : host.bytes() / rows;
  HEARTH_CHECK(row_bytes > 0 && row_bytes <= kBufferBytes);
  const int64_t most = kBufferBytes / row_bytes;
  for (int64_t row = 0; row < rows; row += most) {
    const int64_t n = std::min(most, rows - row);
    const Buffer& b = fill(static_cast<const char*>(host.data) + row * row_bytes, n * row_bytes);
    HEARTH_CUDA_CHECK(
        cudaMemcpyAsync(b.staged, b.pinned, static_cast<size_t>(n * row_bytes), cudaMemcpyHostToDevice, stream_));
    use(b.staged, row, n);
    HEARTH_CUDA_CHECK(cudaEventRecord(b.free, stream_));
  }
  moved_.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

Uploader::Moved Uploader::take_moved() {
  const Moved out = moved_;
  moved_ = {};
  return out;
}

}  // namespace hearth::cuda
