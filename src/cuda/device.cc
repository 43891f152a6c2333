// Asking the runtime, and saying what its errors mean.
#include "cuda/device.h"

#include <cstdlib>

#include "cuda/check.h"

namespace hearth::cuda {
namespace {

std::string cuda_version(int version) { return cat("CUDA ", version / 1000, ".", version % 1000 / 10); }

Status unavailable(std::string why) { return Status(Code::kUnavailable, std::move(why)); }

// Read when the runtime starts.
void set_environment() {
  // A kernel that was first loaded while a graph is captured would end the capture.
  setenv("CUDA_MODULE_LOADING", "EAGER", 0);
  // Streams that share a queue wait for each other: ranks of one GPU must not.
  setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
}

}  // namespace

Result<int> gpus() {
  set_environment();
  int devices = 0;
  HEARTH_TRY(cuda_status(cudaGetDeviceCount(&devices), "no usable GPU"));
  return devices;
}

Result<cudaDeviceProp> hopper_gpu(int device) {
  set_environment();
  int devices = 0;
  const cudaError_t found = cudaGetDeviceCount(&devices);
  if (found == cudaErrorInsufficientDriver) {
    cudaGetLastError();
    int driver = 0;
    HEARTH_TRY(cuda_status(cudaDriverGetVersion(&driver), "reading the driver's version"));
    if (driver == 0) return unavailable("no NVIDIA driver on this machine");
    return unavailable(cat("the NVIDIA driver goes up to ", cuda_version(driver), ", this hearth was built with ",
                           cuda_version(CUDART_VERSION)));
  }
  HEARTH_TRY(cuda_status(found, "no usable GPU"));
  if (device < 0 || device >= devices) return invalid("GPU ", device, " was asked for, this machine has ", devices);
  cudaDeviceProp properties;
  HEARTH_TRY(cuda_status(cudaGetDeviceProperties(&properties, device), "reading the GPU's properties"));
  if (properties.major != 9 || properties.minor != 0) {
    return unavailable(cat("needs a Hopper GPU (compute capability 9.0); GPU ", device, " is ",
                           static_cast<const char*>(properties.name)));
  }
  return properties;
}

}  // namespace hearth::cuda
