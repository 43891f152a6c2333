// From what the user calls a model to a Model on a backend. MODEL is a folder with config.json and safetensors, a .gguf
// file, or org/name in the Hugging Face cache.
#pragma once

#include <filesystem>
#include <memory>
#include <string_view>

#include "models/config.h"
#include "models/model.h"
#include "models/weight_loader.h"

namespace hearth {

// A checkpoint that was opened and whose config was read; no weight is loaded yet.
struct OpenedModel {
  std::filesystem::path path;  // the folder (tokenizer.json and the like are there) or the .gguf file
  ModelConfig config;
  std::shared_ptr<const Checkpoint> checkpoint;  // ->gguf() has the tokenizer of a .gguf file
};

struct LoadedModel {
  OpenedModel opened;
  std::unique_ptr<Model> model;
  std::vector<LoadedMatrices> matrices;  // of its linear layers
};

// The folder or file; of the cache, the commit that refs/main names, else the only snapshot.
Result<std::filesystem::path> find_model(std::string_view name);
enum class LoadFormat {
  kAuto,
  kDummy,  // random weights in the shapes of the folder's config.json; no weight file is read
};
Result<OpenedModel> open_model(std::string_view name, LoadFormat format = LoadFormat::kAuto);
// Names of the linear layers' matrices, all that a LinearFormat may quantize, of a checkpoint whose every tensor is
// checked. Nothing is loaded.
Result<std::vector<std::string>> linear_matrices(const OpenedModel& opened, Backend& backend);
// Every tensor is checked before anything is allocated on the backend.
Result<LoadedModel> load_model(OpenedModel opened, Backend& backend, ModelOptions options, LoadProgress progress = {});
Result<LoadedModel> load_model(std::string_view name, Backend& backend, const ModelOptions& options,
                               LoadProgress progress = {});

}  // namespace hearth
