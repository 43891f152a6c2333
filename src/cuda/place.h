// Place: where a backend's work runs: a GPU, or a share of its multiprocessors that no other place has (a green
// context). Ranks that wait for each other make progress on shares of one GPU as they do on GPUs of their own.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"

struct CUctx_st;
struct CUgreenCtx_st;

namespace hearth::cuda {

class Place {
 public:
  // A whole Hopper GPU; fails as hopper_gpu() does.
  static Result<std::shared_ptr<Place>> whole(int device);
  // Equal shares of one.
  static Result<std::vector<std::shared_ptr<Place>>> shares(int device, int count);
  // So many GPUs where they are there, else shares of the first: for tests and measurements of ranks.
  static Result<std::vector<std::shared_ptr<Place>>> apart(int count);
  ~Place();
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

  // The calling thread works here from now on: allocates, records events, launches kernels.
  Status enter() const;
  // Of this place; the thread has entered it.
  Result<cudaStream_t> make_stream() const;

  int device() const { return device_; }
  int multiprocessors() const { return multiprocessors_; }
  const std::string& name() const { return name_; }

 private:
  Place() = default;
  int device_ = 0, multiprocessors_ = 0;
  std::string name_;  // "NVIDIA H200", "64 multiprocessors of NVIDIA H200"
  CUgreenCtx_st* green_ = nullptr;
  CUctx_st* context_ = nullptr;  // of a share
};

// How many multiprocessors the calling thread's kernels have: those of the place that it entered last, or else of its
// GPU.
int multiprocessors();

}  // namespace hearth::cuda
