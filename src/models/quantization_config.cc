// Checks quant_method and its parameters: AutoFP8 and DeepSeek ("fp8"), compressed-tensors, ModelOpt, fbgemm, GPTQ and
// AWQ.
#include "models/quantization_config.h"

#include <nlohmann/json.hpp>

#include "base/log.h"
#include "weights/mapped_file.h"

namespace hearth {
namespace {

const Json kNull;

// A member at a path of names, or null where any of them is missing.
template <typename... Names>
const Json& at(const Json& value, const char* name, Names... more) {
  const auto found = value.is_object() ? value.find(name) : value.end();
  const Json& member = value.is_object() && found != value.end() ? *found : kNull;
  if constexpr (sizeof...(more) == 0) {
    return member;
  } else {
    return at(member, more...);
  }
}

bool is_one_of(const Json& value, std::initializer_list<const char*> allowed) {
  for (const char* name : allowed) {
    if (value.is_string() && value.get_ref<const std::string&>() == name) return true;
  }
  return false;
}

// As a short word for a message.
std::string shown(const Json& value) {
  if (value.is_null()) return "nothing";
  if (value.is_string()) return printable(value.get_ref<const std::string&>());
  return value.is_structured() ? cat("an ", value.type_name()) : value.dump();
}

// kv_cache_scheme: absent, or static float8.
Status check_kv_cache(const Json& scheme, const std::string& where) {
  if (scheme.is_null()) return {};
  if (at(scheme, "num_bits") != 8 || !is_one_of(at(scheme, "type"), {"float"})) {
    return unimplemented(where, ": kv_cache_scheme: expected 8 bits of type float, found ",
                         shown(at(scheme, "num_bits")), " of ", shown(at(scheme, "type")));
  }
  return {};
}

// An integer from 1 on under one of two names; `wholes` (-1, null) stand for 0: all of a row.
Result<int64_t> group_size(const Json& q, const std::string& where, const char* name, const char* old_name) {
  const Json& value = at(q, name).is_null() ? at(q, old_name) : at(q, name);
  if (value.is_null() || value == -1) return int64_t{0};
  if (value.is_number_integer() && value.get<int64_t>() >= 8 && value.get<int64_t>() <= (1 << 20)) {
    return value.get<int64_t>();
  }
  return invalid(where, ": ", name, ": expected -1, or an integer of 8 or more, found ", shown(value));
}

// These checks give what is stated.
Result<Quantization> check_gptq(const Json& q, const std::string& where) {
  PackedInts packed{.layout = PackedLayout::kGptq};
  if (at(q, "bits") != 4 && at(q, "bits") != 8) {
    return unimplemented(where, ": bits: expected 4 or 8, found ", shown(at(q, "bits")));
  }
  packed.bits = at(q, "bits").get<int>();
  HEARTH_ASSIGN(packed.group, group_size(q, where, "group_size", "group_size"));
  const Json& format = at(q, "checkpoint_format");
  if (!format.is_null() && !is_one_of(format, {"gptq", "gptq_v2"})) {
    return unimplemented(where, ": checkpoint_format: expected gptq or gptq_v2, found ", shown(format));
  }
  packed.zeros_less_one = !is_one_of(format, {"gptq_v2"});
  if (at(q, "is_marlin_format") == true) return unimplemented(where, ": is_marlin_format: expected false, found true");
  if (const Json& own = at(q, "dynamic"); !own.is_null() && !own.empty()) {
    return unimplemented(where, ": dynamic: expected one form of all matrices, found ", shown(own));
  }
  return Quantization{.packed = packed};
}

Result<Quantization> check_awq(const Json& q, const std::string& where) {
  PackedInts packed{.layout = PackedLayout::kAwq, .bits = 4};
  const Json& bits = at(q, "bits").is_null() ? at(q, "w_bit") : at(q, "bits");
  if (bits != 4) return unimplemented(where, ": bits: expected 4, found ", shown(bits));
  HEARTH_ASSIGN(packed.group, group_size(q, where, "group_size", "q_group_size"));
  if (const Json& version = at(q, "version"); !version.is_null() && !is_one_of(version, {"gemm", "GEMM"})) {
    return unimplemented(where, ": version: expected gemm, found ", shown(version));
  }
  if (at(q, "zero_point") == false) return unimplemented(where, ": zero_point: expected true, found false");
  return Quantization{.packed = packed};
}

// Weights as channel-wise FP8, activations scaled per token as they come.
Result<Quantization> check_fbgemm(const Json& q, const std::string& where) {
  if (const Json& bound = at(q, "activation_scale_ub"); !bound.is_null()) {
    log_info(where, ": activation_scale_ub: activations above it keep their size here");
  }
  return Quantization{.fp8 = true};
}

// One form of all matrices: the groups of a config must not differ in it.
Result<Quantization> check_packed_group(const Json& group, const std::string& where) {
  const Json &weights = at(group, "weights"), &inputs = at(group, "input_activations");
  PackedInts packed{.layout = PackedLayout::kCompressedTensors};
  if (!inputs.is_null()) return unimplemented(where, ": input_activations: expected none, found ", shown(inputs));
  const Json& bits = at(weights, "num_bits");
  if ((bits != 4 && bits != 8) || !is_one_of(at(weights, "type"), {"int"})) {
    return unimplemented(where, ": weights: expected 4 or 8 bits of type int, found ", shown(bits), " of ",
                         shown(at(weights, "type")));
  }
  packed.bits = bits.get<int>();
  const Json& strategy = at(weights, "strategy");
  if (!is_one_of(strategy, {"group", "channel"})) {
    return unimplemented(where, ": weights: strategy: expected group or channel, found ", shown(strategy));
  }
  if (is_one_of(strategy, {"group"})) {
    HEARTH_ASSIGN(packed.group, group_size(weights, where, "group_size", "group_size"));
  }
  packed.has_zeros = at(weights, "symmetric") == false;
  return Quantization{.packed = packed};
}

Result<Quantization> check_fp8(const Json& q, const std::string& where) {
  const Json& block = at(q, "weight_block_size");
  if (!block.is_null() && block != Json::array({128, 128})) {
    return unimplemented(where, ": weight_block_size: expected [128, 128], found ", shown(block));
  }
  if (const Json& format = at(q, "fmt"); !format.is_null() && !is_one_of(format, {"e4m3", "float8_e4m3fn"})) {
    return unimplemented(where, ": fmt: expected e4m3, found ", shown(format));
  }
  if (const Json& scheme = at(q, "activation_scheme"); !scheme.is_null() && !is_one_of(scheme, {"static", "dynamic"})) {
    return invalid(where, ": activation_scheme: expected static or dynamic, found ", shown(scheme));
  }
  return Quantization{true, is_one_of(at(q, "activation_scheme"), {"static"}), !block.is_null()};
}

Result<Quantization> check_compressed_tensors(const Json& q, const std::string& where) {
  const Json& format = at(q, "format");
  const bool packed = is_one_of(format, {"pack-quantized"});
  if (!packed && !is_one_of(format, {"float-quantized", "naive-quantized"})) {
    return unimplemented(where, ": format: expected float-quantized or pack-quantized, found ", shown(format));
  }
  if (const Json& sparsity = at(q, "sparsity_config", "format");
      !sparsity.is_null() && !is_one_of(sparsity, {"dense"})) {
    return unimplemented(where, ": sparsity_config: expected none, found ", shown(sparsity));
  }
  const Json& groups = at(q, "config_groups");
  if (!groups.is_object() || groups.empty()) return invalid(where, ": config_groups: expected at least one group");
  if (packed) {
    if (groups.size() != 1) return unimplemented(where, ": config_groups: expected one, found ", groups.size());
    return check_packed_group(*groups.begin(), cat(where, ": ", printable(groups.begin().key())));
  }
  Quantization out{true};
  for (const auto& [name, group] : groups.items()) {
    const std::string here = cat(where, ": ", printable(name));
    const Json &weights = at(group, "weights"), &inputs = at(group, "input_activations");
    for (const Json* args : {&weights, &inputs}) {
      if (args == &inputs && inputs.is_null()) continue;
      if (at(*args, "num_bits") != 8 || !is_one_of(at(*args, "type"), {"float"})) {
        return unimplemented(here, ": expected 8 bits of type float, found ", shown(at(*args, "num_bits")), " of ",
                             shown(at(*args, "type")));
      }
    }
    const Json& strategy = at(weights, "strategy");
    if (!is_one_of(strategy, {"tensor", "channel", "block"})) {
      return unimplemented(here, ": weights: strategy: expected tensor, channel or block, found ", shown(strategy));
    }
    if (is_one_of(strategy, {"block"}) && at(weights, "block_structure") != Json::array({128, 128})) {
      return unimplemented(here, ": weights: block_structure: expected [128, 128], found ",
                           shown(at(weights, "block_structure")));
    }
    if (at(weights, "symmetric") == false)
      return unimplemented(here, ": weights: symmetric: expected true, found false");
    out.static_activations |= !inputs.is_null() && at(inputs, "dynamic") == false;
    out.blocks |= is_one_of(strategy, {"block"});
  }
  return out;
}

Result<Quantization> check_modelopt(const Json& q, const std::string& where) {
  if (const Json& algorithm = at(q, "quant_algo"); !is_one_of(algorithm, {"FP8"})) {
    return unimplemented(where, ": quant_algo: expected FP8, found ", shown(algorithm));
  }
  if (const Json& kv = at(q, "kv_cache_quant_algo"); !kv.is_null() && !is_one_of(kv, {"FP8"})) {
    return unimplemented(where, ": kv_cache_quant_algo: expected FP8, found ", shown(kv));
  }
  return Quantization{true, /*static_activations=*/true};
}

}  // namespace

Result<Quantization> read_quantization(const Json& config, const std::string& where) {
  const char* field = "quantization_config";
  if (at(config, field).is_null()) field = "compression_config";
  const Json& q = at(config, field);
  if (q.is_null()) return Quantization{};
  const std::string here = cat(where, ": ", field);
  const Json& method = at(q, "quant_method");
  Result<Quantization> out = Quantization{};
  // Older files of compressed-tensors name no method in compression_config.
  if (is_one_of(method, {"compressed-tensors", "compressed_tensors"}) ||
      (method.is_null() && q.is_object() && q.contains("config_groups"))) {
    out = check_compressed_tensors(q, here);
  } else if (is_one_of(method, {"fp8"})) {
    out = check_fp8(q, here);
  } else if (is_one_of(method, {"modelopt"})) {
    out = check_modelopt(q, here);
  } else if (is_one_of(method, {"mxfp4"})) {
    out = Quantization{.mxfp4 = true};
  } else if (is_one_of(method, {"gptq"})) {
    out = check_gptq(q, here);
  } else if (is_one_of(method, {"awq"})) {
    out = check_awq(q, here);
  } else if (is_one_of(method, {"fbgemm_fp8"})) {
    out = check_fbgemm(q, here);
  } else {
    return unimplemented(
        here, ": quant_method: expected awq, compressed-tensors, fbgemm_fp8, fp8, gptq, modelopt or mxfp4, found ",
        shown(method));
  }
  HEARTH_TRY(out.status());
  HEARTH_TRY(check_kv_cache(at(q, "kv_cache_scheme"), here));
  return out;
}

Result<Quantization> read_modelopt_quantization(const Json& file, const std::string& where) {
  const Json& q = at(file, "quantization");
  if (at(q, "quant_algo").is_null()) return Quantization{};
  return check_modelopt(q, where);
}

}  // namespace hearth
