// The quantization a config.json states: one of the FP8 flavours Hearth reads, MXFP4, packed integers, or refused by
// what it asks for.
// Which layers are FP8 is not taken from here but from the tensors themselves (weights/weight_reader.h).
#pragma once

#include <string>

#include "base/json.h"
#include "base/status.h"
#include "weights/packed_ints.h"

namespace hearth {

struct Quantization {
  bool fp8 = false;                 // false: none is stated
  bool static_activations = false;  // scales of activations come with the weights
  bool blocks = false;              // a scale for each 128x128 of a weight
  bool mxfp4 = false;               // experts are in MXFP4
  PackedInts packed;                // matrices are of 4 or 8 bits
  bool any() const { return fp8 || mxfp4 || packed.layout != PackedLayout::kNone; }
};

// `config` is all of config.json.
Result<Quantization> read_quantization(const Json& config, const std::string& where);
// ModelOpt's own file, hf_quant_config.json.
Result<Quantization> read_modelopt_quantization(const Json& file, const std::string& where);

}  // namespace hearth
