// config.json to ModelConfig, every number checked for type and range.
#include "models/config.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/log.h"
#include "models/family.h"
#include "models/quantization_config.h"
#include "weights/mapped_file.h"

namespace hearth {
namespace {

namespace fs = std::filesystem;

Status read_rope(const ConfigFields& config, double default_theta, const ModelConfig& model, RopeConfig& out) {
  // transformers 4 has rope_theta beside rope_scaling, 5 has both in rope_parameters.
  const Json* nested = config.find("rope_parameters");
  if (nested == nullptr) nested = config.find("rope_scaling");
  HEARTH_ASSIGN(out.theta, config.positive("rope_theta", default_theta));
  if (out.theta <= 1.0) return config.wrong("rope_theta", "a number above 1");
  if (nested == nullptr) return {};
  if (!nested->is_object()) return invalid(config.where(), ": rope_scaling: expected an object");
  const ConfigFields rope(*nested, cat(config.where(), ": rope_scaling"));
  HEARTH_ASSIGN(out.theta, rope.positive("rope_theta", out.theta));
  if (out.theta <= 1.0) return rope.wrong("rope_theta", "a number above 1");
  HEARTH_ASSIGN(const std::string old_type, rope.string("type", "default"));
  HEARTH_ASSIGN(const std::string type, rope.string("rope_type", old_type));
  if (type == "default") return {};

  const double max_positions = static_cast<double>(model.max_positions);
  if (type == "yarn") {
    out.scaling = RopeScaling::kYarn;
    HEARTH_ASSIGN(out.original_max_positions, rope.positive("original_max_position_embeddings", max_positions));
    HEARTH_ASSIGN(out.factor, rope.positive("factor", max_positions / out.original_max_positions));
    HEARTH_ASSIGN(out.beta_fast, rope.positive("beta_fast", 32.0));
    HEARTH_ASSIGN(out.beta_slow, rope.positive("beta_slow", 1.0));
    HEARTH_ASSIGN(out.truncate, rope.boolean("truncate", true));
    const auto mscale_of = [&](double mscale) {
      return out.factor <= 1 ? 1.0 : 0.1 * mscale * std::log(out.factor) + 1;
    };
    double attention_factor = mscale_of(1.0);
    if (rope.find("mscale") != nullptr && rope.find("mscale_all_dim") != nullptr) {
      HEARTH_ASSIGN(const double mscale, rope.positive("mscale"));
      HEARTH_ASSIGN(const double mscale_all_dim, rope.positive("mscale_all_dim"));
      attention_factor = mscale_of(mscale) / mscale_of(mscale_all_dim);
    }
    HEARTH_ASSIGN(out.attention_factor, rope.positive("attention_factor", attention_factor));
    return {};
  }
  HEARTH_ASSIGN(out.factor, rope.positive("factor"));
  if (type == "linear") {
    out.scaling = RopeScaling::kLinear;
  } else if (type == "dynamic") {
    // It changes the frequencies of every earlier key once a sequence outgrows max_positions, which no cache can
    // follow.
    out.scaling = RopeScaling::kDynamic;
    log_info(config.where(), ": dynamic rope scaling: sequences stay within ", model.max_positions, " tokens");
  } else if (type == "llama3") {
    out.scaling = RopeScaling::kLlama3;
    HEARTH_ASSIGN(out.original_max_positions, rope.positive("original_max_position_embeddings"));
    HEARTH_ASSIGN(out.low_freq_factor, rope.positive("low_freq_factor"));
    HEARTH_ASSIGN(out.high_freq_factor, rope.positive("high_freq_factor"));
    if (out.high_freq_factor <= out.low_freq_factor) {
      return rope.wrong("high_freq_factor", cat("a number above low_freq_factor ", out.low_freq_factor));
    }
  } else {
    return unimplemented(rope.where(), ": rope_type: expected default, linear, dynamic, llama3 or yarn, found ",
                         printable(type));
  }
  return {};
}

// Of every layer's heads, where the family has not said it.
Status read_rotary(const ConfigFields& config, const Family& family, std::vector<LayerSpec>& layers) {
  constexpr const char* kField = "partial_rotary_factor";
  HEARTH_ASSIGN(double share, config.positive(kField, family.rotary_share.value_or(1.0)));
  for (const char* nested : {"rope_scaling", "rope_parameters"}) {
    const Json* rope = config.find(nested);
    if (rope == nullptr || !rope->is_object()) continue;
    HEARTH_ASSIGN(share, ConfigFields(*rope, cat(config.where(), ": ", nested)).positive(kField, share));
  }
  if (share > 1 || (share != 1 && !family.rotary_share)) {
    const char* expected = family.rotary_share ? " at most 1" : " 1";
    return unimplemented(config.where(), ": ", kField, ": expected", expected, ", found ", share);
  }
  for (LayerSpec& layer : layers) {
    AttentionSpec& attention = layer.attention;
    if (attention.rotary == 0) {
      attention.rotary = static_cast<int64_t>(static_cast<double>(attention.head_dim) * share);
    }
  }
  return {};
}

Result<DType> read_dtype(const ConfigFields& config) {
  HEARTH_ASSIGN(const std::string old_name, config.string("torch_dtype", "bfloat16"));
  HEARTH_ASSIGN(const std::string name, config.string("dtype", old_name));
  if (name == "float32") return DType::kF32;
  if (name == "float16") return DType::kF16;
  if (name == "bfloat16") return DType::kBF16;
  return invalid(config.where(), ": dtype: expected float32, float16 or bfloat16, found ", printable(name));
}

// model_type is what transformers goes by; architectures says that it is the causal language model.
Result<const Family*> read_family(const ConfigFields& config) {
  HEARTH_ASSIGN(const std::string type, config.string("model_type"));
  const Family* family = find_family(type);
  if (config.find("auto_map") != nullptr && !(family != nullptr && family->published_with_code)) {
    return unimplemented(config.where(), ": auto_map: a checkpoint's own code is not run");
  }
  if (family == nullptr) {
    return unimplemented(config.where(), ": model_type: expected one of ", family_names(), ", found ", printable(type));
  }
  if (const Json* classes = config.find("architectures"); classes != nullptr) {
    const std::string name = classes->is_array() && classes->size() == 1 && (*classes)[0].is_string()
                                 ? (*classes)[0].get<std::string>()
                                 : std::string();
    if (!name.ends_with("ForCausalLM")) {
      return unimplemented(config.where(), ": architectures: expected one ...ForCausalLM, found ", printable(name));
    }
  }
  return family;
}

Result<ModelConfig> read_fields(const ConfigFields& config) {
  ModelConfig out;
  HEARTH_ASSIGN(const Family* family, read_family(config));
  out.architecture = family->name;
  HEARTH_ASSIGN(out.hidden, config.integer("hidden_size", 1, kMaxDim));
  HEARTH_ASSIGN(const int64_t layers, config.integer("num_hidden_layers", 1, kMaxLayers));
  LayerSpec layer;
  AttentionSpec& attention = layer.attention;
  HEARTH_ASSIGN(attention.heads, config.integer("num_attention_heads", 1, kMaxHeads));
  HEARTH_ASSIGN(attention.kv_heads, config.integer("num_key_value_heads", 1, kMaxHeads, attention.heads));
  if (config.find("head_dim") == nullptr && out.hidden % attention.heads != 0) {
    return config.wrong("hidden_size", cat("a multiple of num_attention_heads ", attention.heads));
  }
  HEARTH_ASSIGN(attention.head_dim, config.integer("head_dim", 2, kMaxHeadDim, out.hidden / attention.heads));
  HEARTH_ASSIGN(layer.feed_forward.intermediate, config.integer("intermediate_size", 1, kMaxDim));
  HEARTH_ASSIGN(out.vocab, config.integer("vocab_size", 1, kMaxDim));
  HEARTH_ASSIGN(out.max_positions, config.integer("max_position_embeddings", 1, kMaxPositions));
  HEARTH_ASSIGN(const double epsilon, config.positive("rms_norm_eps", 1e-6));
  out.rms_epsilon = static_cast<float>(epsilon);
  HEARTH_ASSIGN(out.tied_head, config.boolean("tie_word_embeddings", false));
  HEARTH_ASSIGN(const std::string activation, config.string("hidden_act", "silu"));
  if (activation != "silu" && activation != "swish") {
    return unimplemented(config.where(), ": hidden_act: expected silu, found ", printable(activation));
  }
  out.layers.assign(static_cast<size_t>(layers), layer);
  HEARTH_TRY(family->read(config, out));
  HEARTH_TRY(read_rope(config, family->rope_theta, out, out.rope));
  HEARTH_TRY(read_rotary(config, *family, out.layers));
  HEARTH_ASSIGN(out.dtype, read_dtype(config));
  HEARTH_ASSIGN(out.eos, config.ids("eos_token_id", out.vocab));
  HEARTH_ASSIGN(const int64_t bos, config.integer("bos_token_id", -1, out.vocab - 1, -1));
  out.bos = static_cast<int32_t>(bos);
  HEARTH_TRY(check_consistent(out, config.where()));
  return out;
}

Result<Json> read_json(const fs::path& path) {
  HEARTH_ASSIGN(const std::string text, read_text_file(path));
  auto parsed = parse_json(text);
  if (!parsed.ok()) return parsed.status().prefixed(printable(path.string()));
  return parsed;
}

}  // namespace

Result<ModelConfig> read_config(const fs::path& folder) {
  const fs::path path = folder / "config.json";
  HEARTH_ASSIGN(const Json json, read_json(path));
  HEARTH_ASSIGN(ModelConfig out, read_fields(ConfigFields(json, printable(path.string()))));
  HEARTH_ASSIGN(out.quantization, read_quantization(json, printable(path.string())));
  if (const fs::path modelopt = folder / "hf_quant_config.json"; !out.quantization.fp8 && is_there(modelopt)) {
    HEARTH_ASSIGN(const Json quantization, read_json(modelopt));
    HEARTH_ASSIGN(out.quantization, read_modelopt_quantization(quantization, printable(modelopt.string())));
  }
  if (const fs::path generation = folder / "generation_config.json"; is_there(generation)) {
    HEARTH_ASSIGN(const Json fields, read_json(generation));
    HEARTH_ASSIGN(const auto eos, ConfigFields(fields, printable(generation.string())).ids("eos_token_id", out.vocab));
    for (const int32_t id : eos) {
      if (std::find(out.eos.begin(), out.eos.end(), id) == out.eos.end()) out.eos.push_back(id);
    }
  }
  return out;
}

// What both kinds of checkpoint must agree on.
Status check_consistent(const ModelConfig& c, const std::string& where) {
  for (const LayerSpec& layer : c.layers) {
    const AttentionSpec& a = layer.attention;
    const FeedForwardSpec& f = layer.feed_forward;
    if (a.heads % a.kv_heads != 0) {
      return invalid(where, ": expected attention heads in groups of ", a.kv_heads, " KV heads, found ", a.heads);
    }
    if (a.head_dim % 8 != 0) return invalid(where, ": head_dim: expected a multiple of 8, found ", a.head_dim);
    if (a.rotary < 2 || a.rotary > a.head_dim || a.rotary % 2 != 0) {
      return invalid(where, ": expected an even number of rotated channels, at most ", a.head_dim, ", found ",
                     a.rotary);
    }
    if (f.experts_per_token > f.experts) {
      return invalid(where, ": expected at most ", f.experts, " experts per token, found ", f.experts_per_token);
    }
  }
  if (!(c.rms_epsilon > 0) || !std::isfinite(c.rms_epsilon)) {  // as float32, which its double may not be
    return invalid(where, ": RMS norm's epsilon: expected a float32 above 0, found ", c.rms_epsilon);
  }
  return {};
}

}  // namespace hearth
