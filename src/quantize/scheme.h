// FP8 checkpoints that Hearth writes: what each scheme makes of a matrix, and what config.json says of it.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "cpu/quantize.h"
#include "weights/safetensors_writer.h"

namespace hearth {

enum class Fp8Scheme {
  kChannel,  // compressed-tensors, float-quantized: a scale per output channel, activations scaled as they come
  kStatic,   // AutoFP8: a scale per matrix, and one for what it reads
  kBlock,    // DeepSeek: a scale per 128x128 block, activations scaled as they come
};

constexpr std::string_view kInputScaleSuffix = ".input_scale";

// The tensors that a matrix NAME [out, in] becomes: NAME.weight, its scales, and with kStatic its input's.
std::vector<SafetensorsEntry> quantized_entries(Fp8Scheme scheme, const std::string& name, int64_t out, int64_t in);
QuantizedMatrix quantize_matrix(Fp8Scheme scheme, const Tensor& weight);
// quantization_config. `ignored`: names of the linear layers that stay as they are.
Json quantization_config(Fp8Scheme scheme, std::span<const std::string> ignored);

}  // namespace hearth
