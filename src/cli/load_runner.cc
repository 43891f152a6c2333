// Sizes that the user left open are chosen here.
#include "cli/load_runner.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "base/log.h"
#include "cli/load_ranks.h"
#include "comm/communicator.h"
#include "engine/background_runner.h"
#include "engine/model_runner.h"
#include "engine/parallel_runner.h"
#include "models/kv_cache.h"

namespace hearth {
namespace {

constexpr int64_t kMaxDefaultKvBytes = int64_t{4} << 30;
constexpr int64_t kPromptLogitRows = 64;  // of a step, beside one a sequence

// Of a rank. The rest of a GPU is for the cache, but for the kernels' own workspace; a CPU has other things to hold.
int64_t default_kv_bytes(const ChosenBackends& chosen, int64_t useful, int64_t replicas) {
  int64_t free = std::numeric_limits<int64_t>::max();  // of the rank that has the most experts
  for (const auto& rank : chosen.ranks) {
    rank->enter();
    free = std::min(free, rank->free_bytes());
  }
  const int64_t most = kMaxDefaultKvBytes / std::ssize(chosen.ranks);
  return chosen.cuda ? free / 10 * 9 / chosen.ranks_a_device : std::min({free / 4, most, useful}) / replicas;
}

Result<int64_t> kv_blocks(const ServerOptions& options, const ChosenBackends& chosen, const Model& model) {
  const int64_t block = kv_block_bytes(model.kv_specs());
  const int64_t one_sequence = ceil_div(model.max_model_len(), kBlockSize);
  const int64_t useful = one_sequence * options.max_num_seqs;
  const int64_t bytes = options.kv_cache_bytes ? options.kv_cache_bytes
                                               : default_kv_bytes(chosen, useful * block, options.backend.replicas);
  if (bytes / block < one_sequence) {
    return Status(Code::kResourceExhausted,
                  cat("KV cache: a context of ", model.max_model_len(), " tokens needs ", one_sequence * block,
                      " bytes, there are ", bytes, "; lower --max-model-len or raise --kv-cache-memory-bytes"));
  }
  const int64_t blocks = std::min(bytes / block, useful);
  log_info("KV cache: ", blocks * kBlockSize, " tokens of ", block / kBlockSize, " bytes");
  return blocks;
}

// Token counts that steps are rounded up to, each captured once: steps of an eighth keep the padding under 13%.
std::vector<int64_t> token_buckets(int64_t max_tokens) {
  std::vector<int64_t> out;
  for (int64_t n = 1; n < max_tokens; n += std::max<int64_t>(1, std::bit_floor(static_cast<uint64_t>(n)) / 8)) {
    out.push_back(n);
  }
  out.push_back(max_tokens);
  return out;
}

}  // namespace

ModelOptions ServerOptions::model_options() const {
  ModelOptions out;
  out.format = quantization == "fp8" ? LinearFormat::kQuantize : LinearFormat::kAsStored;
  out.fp8_kv_cache = kv_cache_dtype == "fp8";
  out.max_tokens = max_num_batched_tokens;
  out.max_logits = max_num_seqs + kPromptLogitRows;
  out.max_sequences = max_num_seqs;
  out.max_logprobs = max_logprobs;
  out.max_model_len = max_model_len;
  out.experts_per_token = experts_per_token;
  out.expert_parallel = expert_parallel;
  return out;
}

Result<LoadedRunners> load_runners(OpenedModel opened, ServerOptions options, LoadProgress progress) {
  HEARTH_ASSIGN(const std::vector<ChosenBackends> chosen, choose_replicas(options.backend, opened.config));
  const bool cuda = chosen[0].cuda;
  if (options.max_num_seqs == 0) options.max_num_seqs = cuda ? 256 : 64;
  if (options.max_num_batched_tokens == 0) options.max_num_batched_tokens = cuda ? 1024 : 512;
  const ModelOptions model_options = options.model_options();
  const LoadFormat format = options.load_format == "dummy" ? LoadFormat::kDummy : LoadFormat::kAuto;
  std::vector<LoadedRanks> loaded(chosen.size());
  HEARTH_TRY(run_ranks(static_cast<int>(chosen.size()), [&](int replica) -> Status {
    const auto r = static_cast<size_t>(replica);
    HEARTH_ASSIGN(loaded[r], load_ranks(opened, format, chosen[r], model_options, r == 0 ? progress : LoadProgress()));
    return {};
  }));
  LoadedRunners out;
  out.model = loaded[0].models[0];
  out.config = std::move(loaded[0].config);
  out.backend_name = chosen[0].name();
  if (chosen.size() > 1) out.backend_name = cat(chosen.size(), " replicas of ", out.backend_name);

  ModelRunnerOptions runner_options;
  runner_options.max_tokens = model_options.max_tokens;
  runner_options.max_sequences = options.max_num_seqs;
  runner_options.max_logits = model_options.max_logits;
  runner_options.max_logprobs = options.max_logprobs;
  runner_options.max_model_len = out.model->max_model_len();
  // One number for all: GPUs of one kind have about as much room.
  out.num_blocks = std::numeric_limits<int64_t>::max();
  for (const ChosenBackends& replica : chosen) {
    replica.first().enter();
    HEARTH_ASSIGN(const int64_t blocks, kv_blocks(options, replica, *out.model));
    out.num_blocks = std::min(out.num_blocks, blocks);
  }
  runner_options.num_blocks = out.num_blocks;
  if (cuda) runner_options.token_buckets = token_buckets(model_options.max_tokens);
  for (size_t r = 0; r < chosen.size(); ++r) {
    std::vector<std::unique_ptr<Runner>> ranks;
    for (size_t rank = 0; rank < chosen[r].ranks.size(); ++rank) {
      chosen[r].ranks[rank]->enter();
      HEARTH_ASSIGN(ranks.emplace_back(),
                    make_model_runner(chosen[r].ranks[rank], loaded[r].models[rank], runner_options));
      if (!cuda) ranks.back() = std::make_unique<BackgroundRunner>(std::move(ranks.back()));
    }
    out.runners.push_back(ranks.size() == 1 ? std::move(ranks[0]) : make_parallel_runner(std::move(ranks)));
  }
  HEARTH_TRY(run_ranks(static_cast<int>(out.runners.size()),
                       [&](int replica) { return out.runners[static_cast<size_t>(replica)]->prepare(); }));
  out.options = std::move(options);
  return out;
}

}  // namespace hearth
