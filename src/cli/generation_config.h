// What a checkpoint says of sampling: generation_config.json, or a GGUF file's general.sampling keys.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "base/json.h"
#include "models/registry.h"

namespace hearth {

struct GenerationConfig {
  std::string source;  // for messages; empty: there is none
  Json fields;         // an object, by generation_config.json's names
};

// `choice` is --generation-config's value: auto, the checkpoint's own; vllm or none, nothing; else a folder with the
// file in it, or the file.
Result<GenerationConfig> read_generation_config(const OpenedModel& opened, const std::string& choice);

}  // namespace hearth
