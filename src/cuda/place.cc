// Green contexts by the driver's functions, which the runtime finds: Hearth does not link to the driver.
#include "cuda/place.h"

#include <cuda.h>

#include "cuda/check.h"
#include "cuda/device.h"

namespace hearth::cuda {
namespace {

constexpr int kFinest = 8;  // multiprocessors: shares of fewer hold no cluster of 8 CTAs

thread_local const Place* entered = nullptr;

template <typename F>
Status find(const char* name, F& function) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result;
  constexpr unsigned kGreenContexts = 12050;
  const cudaError_t error = cudaGetDriverEntryPointByVersion(name, &found, kGreenContexts, cudaEnableDefault, &result);
  if (error != cudaSuccess || result != cudaDriverEntryPointSuccess) {
    cudaGetLastError();
    return Status(Code::kUnavailable, cat("the NVIDIA driver does not share out a GPU: it has no ", name));
  }
  function = reinterpret_cast<F>(found);
  return {};
}

struct Driver {
  decltype(&cuCtxSetCurrent) set_current = nullptr;
  decltype(&cuDeviceGetDevResource) resource_of = nullptr;
  decltype(&cuDevSmResourceSplitByCount) split = nullptr;
  decltype(&cuDevResourceGenerateDesc) describe = nullptr;
  decltype(&cuGreenCtxCreate) create = nullptr;
  decltype(&cuGreenCtxDestroy) destroy = nullptr;
  decltype(&cuCtxFromGreenCtx) context_of = nullptr;
  decltype(&cuGreenCtxStreamCreate) make_stream = nullptr;

  static Result<Driver> open() {
    Driver out;
    HEARTH_TRY(find("cuCtxSetCurrent", out.set_current));
    HEARTH_TRY(find("cuDeviceGetDevResource", out.resource_of));
    HEARTH_TRY(find("cuDevSmResourceSplitByCount", out.split));
    HEARTH_TRY(find("cuDevResourceGenerateDesc", out.describe));
    HEARTH_TRY(find("cuGreenCtxCreate", out.create));
    HEARTH_TRY(find("cuGreenCtxDestroy", out.destroy));
    HEARTH_TRY(find("cuCtxFromGreenCtx", out.context_of));
    HEARTH_TRY(find("cuGreenCtxStreamCreate", out.make_stream));
    return out;
  }
};

const Result<Driver>& driver() {
  static const Result<Driver> found = Driver::open();
  return found;
}

Status driver_status(CUresult result, std::string_view doing) {
  if (result == CUDA_SUCCESS) return {};
  return internal_error(doing, ": the NVIDIA driver's error ", static_cast<int>(result));
}

Result<cudaDeviceProp> open_gpu(int device) {
  HEARTH_ASSIGN(const cudaDeviceProp properties, hopper_gpu(device));
  HEARTH_TRY(cuda_status(cudaSetDevice(device), "choosing the GPU"));
  HEARTH_TRY(cuda_status(cudaFree(nullptr), "starting the GPU"));
  entered = nullptr;
  return properties;
}

}  // namespace

Result<std::shared_ptr<Place>> Place::whole(int device) {
  HEARTH_ASSIGN(const cudaDeviceProp properties, open_gpu(device));
  std::shared_ptr<Place> out(new Place);
  out->device_ = device;
  out->multiprocessors_ = properties.multiProcessorCount;
  out->name_ = static_cast<const char*>(properties.name);
  return out;
}

Result<std::vector<std::shared_ptr<Place>>> Place::shares(int device, int count) {
  HEARTH_CHECK(count >= 1);
  HEARTH_ASSIGN(const cudaDeviceProp properties, open_gpu(device));
  if (!driver().ok()) return driver().status();
  const Driver& d = *driver();
  const int each = properties.multiProcessorCount / count / kFinest * kFinest;
  if (each == 0) {
    return invalid("a GPU of ", properties.multiProcessorCount, " multiprocessors has no ", count, " shares");
  }
  CUdevResource all, rest;
  std::vector<CUdevResource> parts(static_cast<size_t>(count));
  HEARTH_TRY(driver_status(d.resource_of(device, &all, CU_DEV_RESOURCE_TYPE_SM), "a GPU's multiprocessors"));
  auto groups = static_cast<unsigned>(count);
  HEARTH_TRY(driver_status(d.split(parts.data(), &groups, &all, &rest, 0, static_cast<unsigned>(each)),
                           "sharing out a GPU's multiprocessors"));
  if (groups != static_cast<unsigned>(count)) {
    return invalid("a GPU of ", properties.multiProcessorCount, " multiprocessors has ", groups, " shares of ", each,
                   ", not ", count);
  }
  std::vector<std::shared_ptr<Place>> out;
  for (CUdevResource& part : parts) {
    std::shared_ptr<Place> share(new Place);
    share->device_ = device;
    share->multiprocessors_ = static_cast<int>(part.sm.smCount);
    share->name_ = cat(part.sm.smCount, " multiprocessors of ", static_cast<const char*>(properties.name));
    CUdevResourceDesc description;
    HEARTH_TRY(driver_status(d.describe(&description, &part, 1), "a share of a GPU"));
    HEARTH_TRY(
        driver_status(d.create(&share->green_, description, device, CU_GREEN_CTX_DEFAULT_STREAM), "a share of a GPU"));
    HEARTH_TRY(driver_status(d.context_of(&share->context_, share->green_), "a share of a GPU"));
    out.push_back(std::move(share));
  }
  return out;
}

Result<std::vector<std::shared_ptr<Place>>> Place::apart(int count) {
  HEARTH_ASSIGN(const int devices, gpus());
  if (devices < count) return shares(0, count);
  std::vector<std::shared_ptr<Place>> out;
  for (int device = 0; device < count; ++device) {
    HEARTH_ASSIGN(out.emplace_back(), whole(device));
  }
  return out;
}

Place::~Place() {
  if (entered == this) entered = nullptr;
  if (!green_) return;
  cudaSetDevice(device_);  // away from the context that ends
  (*driver()).destroy(green_);
}

Status Place::enter() const {
  entered = this;
  if (!context_) return cuda_status(cudaSetDevice(device_), "choosing the GPU");
  return driver_status((*driver()).set_current(context_), "choosing a share of the GPU");
}

Result<cudaStream_t> Place::make_stream() const {
  cudaStream_t out = nullptr;
  if (green_) {
    HEARTH_TRY(driver_status((*driver()).make_stream(&out, green_, CU_STREAM_NON_BLOCKING, 0), "creating a stream"));
  } else {
    HEARTH_TRY(cuda_status(cudaStreamCreateWithFlags(&out, cudaStreamNonBlocking), "creating a stream"));
  }
  return out;
}

int multiprocessors() {
  if (entered) return entered->multiprocessors();
  int device = 0, count = 0;
  HEARTH_CUDA_CHECK(cudaGetDevice(&device));
  HEARTH_CUDA_CHECK(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
  return count;
}

}  // namespace hearth::cuda
