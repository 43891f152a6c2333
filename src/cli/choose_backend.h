// Which backend runs a model. The only code that names both.
#pragma once

#include <memory>
#include <string>

#include "models/config.h"
#include "ops/backend.h"

namespace hearth {

// `device`: cpu, cuda, or auto, a Hopper GPU where there is one, else the CPU. `dtype`: of activations; auto is float32
// on a CPU, on a GPU the checkpoint's own 16 bit.
struct BackendChoice {
  std::string device = "auto";
  std::string dtype = "auto";
  int threads = 0;  // of the CPU backend; 0: every core
};

struct ChosenBackend {
  std::shared_ptr<Backend> backend;
  bool cuda = false;  // steps are captured, and run beside the calling thread
};

Result<ChosenBackend> choose_backend(const BackendChoice& choice, const ModelConfig& config);

}  // namespace hearth
