// config.json and GGUF metadata to ModelConfig, every number checked for type and range.
#include "models/config.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/log.h"
#include "models/gguf_metadata.h"
#include "models/quantization_config.h"
#include "weights/gguf.h"
#include "weights/mapped_file.h"

namespace hearth {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxDim = 1 << 20;  // hidden sizes, vocabularies: far above real ones, products stay far below 2^63
constexpr int64_t kMaxPositions = 1 << 21;

// A JSON object's members by name and type. Errors: "FILE: FIELD: expected ..., found ...".
class Fields {
 public:
  Fields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {}

  // Null where missing; a JSON null counts as missing.
  const Json* find(const char* name) const {
    const auto at = object_.find(name);
    return at == object_.end() || at->is_null() ? nullptr : &*at;
  }
  bool mentions(const char* name) const { return object_.contains(name); }
  Result<int64_t> integer(const char* name, int64_t least, int64_t most, std::optional<int64_t> fallback = {}) const {
    const Json* value = find(name);
    if (value == nullptr && fallback) return *fallback;
    if (value == nullptr || !value->is_number_integer() ||
        (value->is_number_unsigned() && value->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) ||
        value->get<int64_t>() < least || value->get<int64_t>() > most) {
      return wrong(name, cat("an integer from ", least, " to ", most));
    }
    return value->get<int64_t>();
  }
  Result<double> positive(const char* name, std::optional<double> fallback = {}) const {
    const Json* value = find(name);
    if (value == nullptr && fallback) return *fallback;
    if (value == nullptr || !value->is_number() || !(value->get<double>() > 0) ||
        !std::isfinite(value->get<double>())) {
      return wrong(name, "a number above 0");
    }
    return value->get<double>();
  }
  Result<bool> boolean(const char* name, bool fallback) const {
    const Json* value = find(name);
    if (value == nullptr) return fallback;
    if (!value->is_boolean()) return wrong(name, "true or false");
    return value->get<bool>();
  }
  Result<std::string> string(const char* name, std::optional<std::string> fallback = {}) const {
    const Json* value = find(name);
    if (value == nullptr && fallback) return *fallback;
    if (value == nullptr || !value->is_string()) return wrong(name, "a string");
    return value->get<std::string>();
  }
  // An id or a list of ids below `vocab`.
  Result<std::vector<int32_t>> ids(const char* name, int64_t vocab) const {
    std::vector<int32_t> out;
    const Json* value = find(name);
    if (value == nullptr) return out;
    const Json list = value->is_array() ? *value : Json::array({*value});
    if (list.size() > 1024) return wrong(name, "at most 1024 token ids");
    for (const Json& id : list) {
      // Non-negative integers are unsigned in this parser; -1 stands for none.
      const bool is_id = id.is_number_unsigned() && id.get<uint64_t>() < static_cast<uint64_t>(vocab);
      if (!is_id && !(id.is_number_integer() && id == -1)) return wrong(name, cat("token ids below ", vocab));
      if (is_id) out.push_back(id.get<int32_t>());
    }
    return out;
  }
  Status wrong(const char* name, std::string_view expected) const {
    const Json* value = find(name);
    std::string found = "nothing";
    if (value != nullptr) found = value->is_number() ? value->dump() : cat("a ", value->type_name());
    return invalid(where_, ": ", name, ": expected ", expected, ", found ", found);
  }
  const std::string& where() const { return where_; }

 private:
  const Json& object_;
  std::string where_;
};

Status read_rope(const Fields& config, const ModelConfig& model, RopeConfig& out) {
  // transformers 4 has rope_theta beside rope_scaling, 5 has both in rope_parameters.
  const Json* nested = config.find("rope_parameters");
  if (nested == nullptr) nested = config.find("rope_scaling");
  const double default_theta = model.architecture == "mixtral" ? 1e6 : 1e4;
  HEARTH_ASSIGN(out.theta, config.positive("rope_theta", default_theta));
  if (out.theta <= 1.0) return config.wrong("rope_theta", "a number above 1");
  if (nested == nullptr) return {};
  if (!nested->is_object()) return invalid(config.where(), ": rope_scaling: expected an object");
  const Fields rope(*nested, cat(config.where(), ": rope_scaling"));
  HEARTH_ASSIGN(out.theta, rope.positive("rope_theta", out.theta));
  if (out.theta <= 1.0) return rope.wrong("rope_theta", "a number above 1");
  HEARTH_ASSIGN(const double rotary, rope.positive("partial_rotary_factor", 1.0));
  if (rotary != 1.0) return unimplemented(rope.where(), ": partial_rotary_factor: expected 1, found ", rotary);
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

// What both kinds of checkpoint must agree on.
Status check_consistent(const ModelConfig& c, const std::string& where) {
  if (c.heads % c.kv_heads != 0) {
    return invalid(where, ": expected attention heads in groups of ", c.kv_heads, " KV heads, found ", c.heads);
  }
  if (c.head_dim % 8 != 0) return invalid(where, ": head_dim: expected a multiple of 8, found ", c.head_dim);
  if (!(c.rms_epsilon > 0) || !std::isfinite(c.rms_epsilon)) {  // as float32, which its double may not be
    return invalid(where, ": RMS norm's epsilon: expected a float32 above 0, found ", c.rms_epsilon);
  }
  if (c.experts_per_token > c.experts) {
    return invalid(where, ": expected at most ", c.experts, " experts per token, found ", c.experts_per_token);
  }
  return {};
}

Result<DType> read_dtype(const Fields& config) {
  HEARTH_ASSIGN(const std::string old_name, config.string("torch_dtype", "bfloat16"));
  HEARTH_ASSIGN(const std::string name, config.string("dtype", old_name));
  if (name == "float32") return DType::kF32;
  if (name == "float16") return DType::kF16;
  if (name == "bfloat16") return DType::kBF16;
  return invalid(config.where(), ": dtype: expected float32, float16 or bfloat16, found ", printable(name));
}

// model_type is what transformers goes by; architectures says that it is the causal language model.
Result<std::string> read_architecture(const Fields& config) {
  if (config.find("auto_map") != nullptr) {
    return unimplemented(config.where(), ": auto_map: a checkpoint's own code is not run");
  }
  HEARTH_ASSIGN(const std::string type, config.string("model_type"));
  if (type != "llama" && type != "mistral" && type != "mixtral") {
    return unimplemented(config.where(), ": model_type: expected llama, mistral or mixtral, found ", printable(type));
  }
  if (const Json* classes = config.find("architectures"); classes != nullptr) {
    const std::string name = classes->is_array() && classes->size() == 1 && (*classes)[0].is_string()
                                 ? (*classes)[0].get<std::string>()
                                 : std::string();
    if (!name.ends_with("ForCausalLM")) {
      return unimplemented(config.where(), ": architectures: expected one ...ForCausalLM, found ", printable(name));
    }
  }
  return std::string(type == "mixtral" ? "mixtral" : "llama");
}

Result<ModelConfig> read_fields(const Fields& config) {
  ModelConfig out;
  HEARTH_ASSIGN(out.architecture, read_architecture(config));
  HEARTH_ASSIGN(out.hidden, config.integer("hidden_size", 1, kMaxDim));
  HEARTH_ASSIGN(out.layers, config.integer("num_hidden_layers", 1, 1024));
  HEARTH_ASSIGN(out.heads, config.integer("num_attention_heads", 1, 4096));
  HEARTH_ASSIGN(out.kv_heads, config.integer("num_key_value_heads", 1, 4096, out.heads));
  if (config.find("head_dim") == nullptr && out.hidden % out.heads != 0) {
    return config.wrong("hidden_size", cat("a multiple of num_attention_heads ", out.heads));
  }
  HEARTH_ASSIGN(out.head_dim, config.integer("head_dim", 2, 1024, out.hidden / out.heads));
  HEARTH_ASSIGN(out.intermediate, config.integer("intermediate_size", 1, kMaxDim));
  HEARTH_ASSIGN(out.vocab, config.integer("vocab_size", 1, kMaxDim));
  HEARTH_ASSIGN(out.max_positions, config.integer("max_position_embeddings", 1, kMaxPositions));
  HEARTH_ASSIGN(const double epsilon, config.positive("rms_norm_eps", 1e-6));
  out.rms_epsilon = static_cast<float>(epsilon);
  HEARTH_ASSIGN(out.tied_head, config.boolean("tie_word_embeddings", false));
  HEARTH_ASSIGN(out.attention_bias, config.boolean("attention_bias", false));
  HEARTH_ASSIGN(const bool mlp_bias, config.boolean("mlp_bias", false));
  if (mlp_bias) return unimplemented(config.where(), ": mlp_bias: expected false, found true");
  HEARTH_ASSIGN(const std::string activation, config.string("hidden_act", "silu"));
  if (activation != "silu" && activation != "swish") {
    return unimplemented(config.where(), ": hidden_act: expected silu, found ", printable(activation));
  }
  HEARTH_ASSIGN(const std::string type, config.string("model_type"));
  if (type != "llama") {  // transformers' Llama has no such field and reads none
    // Null is no window; transformers takes a Mistral config that does not mention it for one of 4096.
    const int64_t unstated = type == "mistral" && !config.mentions("sliding_window") ? 4096 : 0;
    HEARTH_ASSIGN(out.window, config.integer("sliding_window", 1, kMaxPositions, unstated));
  }
  if (out.architecture == "mixtral") {
    HEARTH_ASSIGN(out.experts, config.integer("num_local_experts", 1, 1024, 8));
    HEARTH_ASSIGN(out.experts_per_token, config.integer("num_experts_per_tok", 1, 1024, 2));
  }
  HEARTH_TRY(read_rope(config, out, out.rope));
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
  HEARTH_ASSIGN(ModelConfig out, read_fields(Fields(json, printable(path.string()))));
  HEARTH_ASSIGN(out.quantization, read_quantization(json, printable(path.string())));
  if (const fs::path modelopt = folder / "hf_quant_config.json"; !out.quantization.fp8 && is_there(modelopt)) {
    HEARTH_ASSIGN(const Json quantization, read_json(modelopt));
    HEARTH_ASSIGN(out.quantization, read_modelopt_quantization(quantization, printable(modelopt.string())));
  }
  if (const fs::path generation = folder / "generation_config.json"; is_there(generation)) {
    HEARTH_ASSIGN(const Json fields, read_json(generation));
    HEARTH_ASSIGN(const auto eos, Fields(fields, printable(generation.string())).ids("eos_token_id", out.vocab));
    for (const int32_t id : eos) {
      if (std::find(out.eos.begin(), out.eos.end(), id) == out.eos.end()) out.eos.push_back(id);
    }
  }
  return out;
}

Result<ModelConfig> read_gguf_config(const Checkpoint& checkpoint) {
  const GgufFile& file = *checkpoint.gguf();
  const auto integer = [&](const char* key, int64_t most, std::optional<int64_t> fallback = {}) -> Result<int64_t> {
    const std::string name = cat("llama.", key);
    HEARTH_ASSIGN(const int64_t value, file.integer(name, fallback));
    if (value < 1 || value > most) {
      // A fallback may be 0: "not there".
      if (fallback && value == *fallback) return value;
      return invalid(file.path(), ": ", name, ": expected an integer from 1 to ", most, ", found ", value);
    }
    return value;
  };
  ModelConfig out;
  HEARTH_ASSIGN(out.hidden, integer("embedding_length", kMaxDim));
  HEARTH_ASSIGN(out.layers, integer("block_count", 1024));
  HEARTH_ASSIGN(out.heads, integer("attention.head_count", 4096));
  HEARTH_ASSIGN(out.kv_heads, integer("attention.head_count_kv", 4096, out.heads));
  if (!file.has("llama.attention.key_length") && out.hidden % out.heads != 0) {
    return invalid(file.path(), ": llama.embedding_length: expected a multiple of attention.head_count ", out.heads,
                   ", found ", out.hidden);
  }
  HEARTH_ASSIGN(out.head_dim, integer("attention.key_length", 1024, out.hidden / out.heads));
  HEARTH_ASSIGN(const int64_t value_dim, integer("attention.value_length", 1024, out.head_dim));
  HEARTH_ASSIGN(const int64_t rotary, integer("rope.dimension_count", 1024, out.head_dim));
  if (value_dim != out.head_dim || rotary != out.head_dim) {
    return unimplemented(file.path(), ": expected keys, values and rotation of ", out.head_dim, " channels, found ",
                         value_dim, " and ", rotary);
  }
  HEARTH_ASSIGN(out.intermediate, integer("feed_forward_length", kMaxDim));
  HEARTH_ASSIGN(out.max_positions, integer("context_length", kMaxPositions));
  HEARTH_ASSIGN(out.experts, integer("expert_count", 1024, 0));
  HEARTH_ASSIGN(out.experts_per_token, integer("expert_used_count", 1024, 0));
  if (out.experts > 0 && out.experts_per_token == 0) {
    return invalid(file.path(), ": llama.expert_used_count: expected 1 to ", out.experts, ", found nothing");
  }
  out.architecture = out.experts > 0 ? "mixtral" : "llama";
  HEARTH_ASSIGN(const double epsilon, file.number("llama.attention.layer_norm_rms_epsilon"));
  out.rms_epsilon = static_cast<float>(epsilon);
  HEARTH_ASSIGN(out.rope, read_gguf_rope(checkpoint, "llama", out.head_dim, out.max_positions));
  out.tied_head = !checkpoint.has("lm_head.weight");
  out.attention_bias = checkpoint.has("model.layers.0.self_attn.q_proj.bias");
  out.dtype = DType::kF16;

  // The vocabulary is counted, not believed: tokens and rows of the embedding must be as many.
  HEARTH_ASSIGN(const GgufTokenizer tokenizer, read_gguf_tokenizer(file));
  out.vocab = static_cast<int64_t>(tokenizer.tokens.size());
  if (out.vocab > kMaxDim) return invalid(file.path(), ": expected at most ", kMaxDim, " tokens, found ", out.vocab);
  for (const auto& id : {tokenizer.eos, tokenizer.eot, tokenizer.eom}) {
    if (id && std::find(out.eos.begin(), out.eos.end(), *id) == out.eos.end()) {
      out.eos.push_back(static_cast<int32_t>(*id));
    }
  }
  if (tokenizer.bos) out.bos = static_cast<int32_t>(*tokenizer.bos);
  HEARTH_TRY(refuse_unread_keys(file, "llama"));
  HEARTH_TRY(check_consistent(out, file.path()));
  return out;
}

}  // namespace hearth
