// Names, shapes and words of the three layouts, as their own writers have them.
#include "quantize/scheme.h"

#include <nlohmann/json.hpp>

namespace hearth {

std::vector<SafetensorsEntry> quantized_entries(Fp8Scheme scheme, const std::string& name, int64_t out, int64_t in) {
  std::vector<SafetensorsEntry> entries{{name + ".weight", DType::kE4M3, {out, in}}};
  switch (scheme) {
    case Fp8Scheme::kChannel: entries.push_back({name + ".weight_scale", DType::kF32, {out, 1}}); break;
    case Fp8Scheme::kStatic:
      entries.push_back({name + ".weight_scale", DType::kF32, {}});
      entries.push_back({cat(name, kInputScaleSuffix), DType::kF32, {}});
      break;
    case Fp8Scheme::kBlock:
      entries.push_back(
          {name + ".weight_scale_inv", DType::kF32, {ceil_div(out, kScaleGroup), ceil_div(in, kScaleGroup)}});
      break;
  }
  return entries;
}

QuantizedMatrix quantize_matrix(Fp8Scheme scheme, const Tensor& weight) {
  switch (scheme) {
    case Fp8Scheme::kChannel: return quantize_matrix(weight, WeightScales::kChannel);
    case Fp8Scheme::kStatic: return quantize_matrix(weight, weight.dim(0), weight.dim(1));
    case Fp8Scheme::kBlock: return quantize_matrix(weight, WeightScales::kBlock);
  }
  return {};
}

Json quantization_config(Fp8Scheme scheme, std::span<const std::string> ignored) {
  const auto eight_bits = [](const char* strategy, bool dynamic) {
    return Json{{"num_bits", 8}, {"type", "float"}, {"strategy", strategy}, {"dynamic", dynamic}, {"symmetric", true}};
  };
  switch (scheme) {
    case Fp8Scheme::kChannel:
      return {{"quant_method", "compressed-tensors"},
              {"format", "float-quantized"},
              {"quantization_status", "compressed"},
              {"config_groups",
               {{"group_0",
                 {{"targets", Json::array({"Linear"})},
                  {"weights", eight_bits("channel", false)},
                  {"input_activations", eight_bits("token", true)}}}}},
              {"ignore", ignored}};
    case Fp8Scheme::kStatic:
      return {{"quant_method", "fp8"}, {"activation_scheme", "static"}, {"ignored_layers", ignored}};
    case Fp8Scheme::kBlock:
      return {{"quant_method", "fp8"},
              {"activation_scheme", "dynamic"},
              {"fmt", "e4m3"},
              {"weight_block_size", {kScaleGroup, kScaleGroup}},
              {"modules_to_not_convert", ignored}};
  }
  return {};
}

}  // namespace hearth
