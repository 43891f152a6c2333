// A checkpoint without a file behind it, for `--load-format dummy`: whatever a model asks for is there. Its tensors
// have no data, which a Backend takes as a wish for random weights. Where the config states FP8, linear layers are e4m3
// with a scale each, or one for each 128x128 where it says so, and beside it, where it says so, one for what they are
// multiplied by; where it states MXFP4, experts are so, for that is what MXFP4 becomes. For measuring; what the model
// answers is noise.
#pragma once

#include <memory>

#include "models/config.h"
#include "weights/checkpoint.h"

namespace hearth {

// What it is asked for and no machine holds, it refuses.
std::shared_ptr<const Checkpoint> make_dummy_checkpoint(const ModelConfig& config);

}  // namespace hearth
