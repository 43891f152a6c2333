// Errors of the CUDA runtime: a Status where the machine may be at fault (no driver, no memory), an abort where only we
// can be.
#pragma once

#include <cuda_runtime_api.h>

#include "base/status.h"

namespace hearth::cuda {

inline Status cuda_status(cudaError_t error, std::string_view doing) {
  if (error == cudaSuccess) return {};
  cudaGetLastError();  // a failed call must not be found again by the next check
  const bool absent = error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver;
  return Status(absent ? Code::kUnavailable : Code::kInternal, cat(doing, ": ", cudaGetErrorString(error)));
}

}  // namespace hearth::cuda

#define HEARTH_CUDA_CHECK(expression)                                                                       \
  do {                                                                                                      \
    if (const cudaError_t error_ = (expression); error_ != cudaSuccess) {                                   \
      std::fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #expression, cudaGetErrorString(error_)); \
      std::abort();                                                                                         \
    }                                                                                                       \
  } while (false)
