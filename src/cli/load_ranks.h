// A model's weights on every backend that shares it, loaded at the same time.
#pragma once

#include <memory>
#include <vector>

#include "cli/choose_backend.h"
#include "models/registry.h"

namespace hearth {

struct LoadedRanks {
  std::vector<std::shared_ptr<Model>> models;
  ModelConfig config;
};

// `format`: that `opened` was opened with. `progress` is the first rank's; the others are about as far.
Result<LoadedRanks> load_ranks(const OpenedModel& opened, LoadFormat format, const ChosenBackends& backends,
                               const ModelOptions& options, LoadProgress progress);

}  // namespace hearth
