// The CPU backend: host memory, weights packed into panels, and the ops of cpu_ops.h.
#pragma once

#include <memory>

#include "comm/communicator.h"
#include "ops/backend.h"

namespace hearth {

// `act` is f32, f16 or bf16; `threads` 0 takes every core this process may use. `comm`: of a rank among several, all on
// this host; its failure is Backend::wait's.
std::unique_ptr<Backend> make_cpu_backend(DType act, int threads, std::shared_ptr<Communicator> comm = nullptr);

}  // namespace hearth
