// The quantization a config.json states: one of the FP8 flavours Hearth reads, or refused by what it asks for. Which
// layers are FP8 is not taken from here but from the tensors themselves (weights/weight_reader.h).
#pragma once

#include <string>

#include "base/json.h"
#include "base/status.h"

namespace hearth {

// `config` is all of config.json. True for FP8, false where no quantization is stated.
Result<bool> read_quantization(const Json& config, const std::string& where);
// ModelOpt's own file, hf_quant_config.json.
Result<bool> read_modelopt_quantization(const Json& file, const std::string& where);

}  // namespace hearth
