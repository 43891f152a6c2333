// A checkpoint of a model's shapes without a file behind it: its tensors have no data, which a Backend takes as a wish
// for random weights (`--load-format dummy`). Where the config states FP8, matrices are e4m3 with a scale each, beside
// it, where it says so, one for what they are multiplied by. For measuring; what it answers is noise.
#pragma once

#include <memory>

#include "models/config.h"
#include "weights/checkpoint.h"

namespace hearth {

// Refuses sizes that no machine holds, before it makes a name for each tensor.
Result<std::shared_ptr<const Checkpoint>> make_dummy_checkpoint(const ModelConfig& config);

}  // namespace hearth
