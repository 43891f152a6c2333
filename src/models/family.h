// Family: all that Hearth knows of one kind of model: what its config says beside what all say, and how its checkpoints
// name their tensors. A file each in models/families/; the decoder runs what they state.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/config.h"
#include "models/config_fields.h"
#include "weights/name_map.h"

namespace hearth {

struct Family {
  std::string_view name;       // config.json: model_type
  std::string_view gguf = {};  // GGUF: general.architecture; empty: another family reads those files
  double rope_theta = 1e4;     // where config.json says none
  // The share of a head's channels that is rotated, where config.json says none; empty: all, and another is refused.
  std::optional<double> rotary_share = {};
  bool published_with_code = false;  // which is not run, nor needed
  // Complete the config, in which all that families have in common is set (config.cc), the layers' too.
  Status (*read)(const ConfigFields& fields, ModelConfig& config) = nullptr;
  Status (*read_gguf)(const GgufFields& fields, ModelConfig& config) = nullptr;
  std::span<const NameRule> names = {};       // of safetensors, beside those of kCommonNames
  std::span<const NameRule> gguf_names = {};  // beside those of kCommonGgufNames
};

// Null where there is none.
const Family* find_family(std::string_view name);
const Family* find_gguf_family(std::string_view architecture);
// "llama, mistral, ...", for messages.
std::string family_names();
std::string gguf_family_names();

// The checkpoint under Hearth's names (models/decoder.h).
Result<std::shared_ptr<const Checkpoint>> name_tensors(std::shared_ptr<const Checkpoint> file,
                                                       const ModelConfig& config);

// The windows of Qwen's configs: `sliding_window` counts where `use_sliding_window` is true, in the layers that
// `layer_types` says, or in those from `max_window_layers` on.
Status read_layer_windows(const ConfigFields& fields, ModelConfig& config);
// Which layers `layer_types` says slide; empty where the config has none.
Result<std::vector<bool>> read_layer_types(const ConfigFields& fields, int64_t layers);

// Which layers of Qwen's mixtures have experts: `decoder_sparse_step`, `mlp_only_layers`.
Result<std::vector<bool>> read_sparse_layers(const ConfigFields& fields, int64_t layers);
// A router of sigmoids in GGUF metadata; other ones are refused.
Status read_gguf_sigmoids(const GgufFields& fields, Scoring& out);

extern const Family kGlm4Moe, kGptOss, kGranite, kGraniteMoe, kGraniteMoeShared, kLlama, kMinimaxM2, kMistral, kMixtral,
    kOlmoe, kQwen2, kQwen2Moe, kQwen3, kQwen3Moe;

}  // namespace hearth
