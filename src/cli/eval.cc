// `hearth eval perplexity FILE`.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "cli/commands.h"
#include "cli/load_ranks.h"
#include "cli/progress.h"
#include "cli/write_json.h"
#include "comm/communicator.h"
#include "models/perplexity.h"
#include "weights/mapped_file.h"

namespace hearth {
namespace {

constexpr int64_t kChunk = 64;  // tokens and rows of logits a step: a vocabulary of 128 K makes 32 MiB of them
constexpr int64_t kMaxTextBytes = 1 << 30;

Status evaluate(const ServerOptions& server, const PerplexityOptions& options) {
  HEARTH_ASSIGN(const std::string text, read_text_file(options.file, kMaxTextBytes));
  HEARTH_ASSIGN(OpenedModel opened, open_model(server.model));
  HEARTH_ASSIGN(LoadedText loaded_text, load_text(opened, LoadFormat::kAuto, {}));
  HEARTH_ASSIGN(const std::vector<int32_t> tokens, loaded_text.tokenizer->encode(text));

  HEARTH_ASSIGN(const ChosenBackends chosen, choose_backends(server.backend, opened.config));
  ModelOptions model_options = server.model_options();
  model_options.max_tokens = kChunk;
  model_options.max_logits = kChunk;
  ProgressLine line("loading");
  HEARTH_ASSIGN(const LoadedRanks loaded, load_ranks(opened, LoadFormat::kAuto, chosen, model_options,
                                                     [&](int64_t done, int64_t total) { line.update(done, total); }));
  line.finish();
  const int64_t window = std::min(options.window, loaded.models[0]->max_model_len());
  ProgressLine tokens_line("perplexity", "tokens", 1);
  const auto total = static_cast<int64_t>(tokens.size());
  const auto show = [&](const PerplexityResult& so_far) { tokens_line.update(so_far.scored, total); };
  PerplexityResult result;  // every rank has it
  HEARTH_TRY(run_ranks(static_cast<int>(chosen.ranks.size()), [&](int rank) -> Status {
    const auto r = static_cast<size_t>(rank);
    chosen.ranks[r]->enter();
    HEARTH_ASSIGN(PerplexityResult mine,
                  measure_perplexity(*chosen.ranks[r], *loaded.models[r], tokens, window, kChunk,
                                     rank == 0 ? show : std::function<void(const PerplexityResult&)>()));
    if (rank == 0) result = std::move(mine);
    return {};
  }));
  tokens_line.finish();
  std::printf("perplexity %.4f over %lld tokens in windows of %lld\n", result.perplexity(),
              static_cast<long long>(result.scored), static_cast<long long>(window));
  if (options.json.empty()) return {};
  Json windows = Json::array();
  for (const auto& w : result.windows) windows.push_back({{"scored", w.scored}, {"nll", w.nll}});
  return write_json(options.json, {{"model", server.model},
                                   {"backend", chosen.name()},
                                   {"dtype", server.backend.dtype},
                                   {"quantization", server.quantization},
                                   {"kv_cache_dtype", server.kv_cache_dtype},
                                   {"window", window},
                                   {"tokens", total},
                                   {"scored", result.scored},
                                   {"perplexity", result.perplexity()},
                                   {"windows", windows}});
}

}  // namespace

int eval_perplexity_command(const ServerOptions& server, const PerplexityOptions& options) {
  const Status status = evaluate(server, options);
  if (!status.ok()) log_error(status.message());
  return status.ok() ? 0 : 1;
}

}  // namespace hearth
