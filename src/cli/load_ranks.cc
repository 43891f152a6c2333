// A thread a rank.
#include "cli/load_ranks.h"

#include "comm/communicator.h"
#include "models/dummy_checkpoint.h"

namespace hearth {

Result<LoadedRanks> load_ranks(const OpenedModel& opened, LoadFormat format, const ChosenBackends& backends,
                               const ModelOptions& options, LoadProgress progress) {
  LoadedRanks out;
  out.models.resize(backends.ranks.size());
  HEARTH_TRY(run_ranks(static_cast<int>(backends.ranks.size()), [&](int rank) -> Status {
    OpenedModel mine = opened;
    // A dummy's tensors come into being as they are asked for: each rank has its own.
    if (format == LoadFormat::kDummy) mine.checkpoint = make_dummy_checkpoint(opened.config);
    const auto r = static_cast<size_t>(rank);
    backends.ranks[r]->enter();
    HEARTH_ASSIGN(LoadedModel loaded,
                  load_model(std::move(mine), *backends.ranks[r], options, rank == 0 ? progress : LoadProgress()));
    out.models[r] = std::move(loaded.model);
    if (rank == 0) out.config = std::move(loaded.opened.config);
    return {};
  }));
  return out;
}

}  // namespace hearth
