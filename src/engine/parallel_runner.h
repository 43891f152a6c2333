// ParallelRunner: one model spread over ranks (comm/), each with a runner, a backend and its part of the weights and of
// the KV cache. Every rank runs every step.
#pragma once

#include <memory>
#include <vector>

#include "engine/runner.h"

namespace hearth {

// In the order of ranks; of one shape. A runner's submit() must not wait for the other ranks: it runs its steps on a
// thread of its own (background_runner.h) or on a device.
std::unique_ptr<Runner> make_parallel_runner(std::vector<std::unique_ptr<Runner>> ranks);

}  // namespace hearth
