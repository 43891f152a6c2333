// The largest magnitudes that a text brings to each linear layer, for checkpoints with static activation scales.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>

#include "models/registry.h"

namespace hearth {

struct CalibrationOptions {
  int64_t window = 1024;  // tokens; each window is a text of its own; the model's length where that is less
  int threads = 0;        // 0: every core
  const std::atomic<bool>* stop = nullptr;
  std::function<void(int64_t done, int64_t total)> progress;  // in tokens
};

// By the matrices' names without ".weight". Runs on the CPU in float32, layer by layer: one layer's weights and
// float32 values of every token are in memory. An expert that no token was sent to has what the layer's others read at
// most.
Result<std::map<std::string, float>> largest_inputs(const OpenedModel& opened, std::span<const int32_t> tokens,
                                                    const CalibrationOptions& options);

}  // namespace hearth
