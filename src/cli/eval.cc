// `hearth eval perplexity FILE`.
#include <cstdio>

#include "base/log.h"
#include "cli/commands.h"
#include "cli/progress.h"
#include "models/perplexity.h"
#include "weights/mapped_file.h"

namespace hearth {
namespace {

constexpr int64_t kChunk = 64;  // tokens and rows of logits a step: a vocabulary of 128 K makes 32 MiB of them
constexpr int64_t kMaxTextBytes = 1 << 30;

Status evaluate(const ServerOptions& options, const std::string& file, int64_t window) {
  HEARTH_ASSIGN(const std::string text, read_text_file(file, {}, kMaxTextBytes));
  HEARTH_ASSIGN(OpenedModel opened, open_model(options.model));
  HEARTH_ASSIGN(LoadedText loaded_text, load_text(opened, LoadFormat::kAuto, {}));
  HEARTH_ASSIGN(const std::vector<int32_t> tokens, loaded_text.tokenizer->encode(text));

  HEARTH_ASSIGN(const ChosenBackend chosen, choose_backend(options.backend, opened.config));
  const std::shared_ptr<Backend>& backend = chosen.backend;
  ModelOptions model_options = options.model_options();
  model_options.max_tokens = kChunk;
  model_options.max_logits = kChunk;
  ProgressLine line("loading");
  HEARTH_ASSIGN(LoadedModel loaded, load_model(std::move(opened), *backend, model_options,
                                               [&](int64_t done, int64_t total) { line.update(done, total); }));
  line.finish();
  window = std::min(window, loaded.model->max_model_len());
  ProgressLine tokens_line("perplexity", "tokens", 1);
  const auto total = static_cast<int64_t>(tokens.size());
  HEARTH_ASSIGN(const PerplexityResult result,
                measure_perplexity(*backend, *loaded.model, tokens, window, kChunk,
                                   [&](const PerplexityResult& so_far) { tokens_line.update(so_far.scored, total); }));
  tokens_line.finish();
  std::printf("perplexity %.4f over %lld tokens in windows of %lld\n", result.perplexity(),
              static_cast<long long>(result.scored), static_cast<long long>(window));
  return {};
}

}  // namespace

int eval_perplexity_command(const ServerOptions& options, const std::string& file, int64_t window) {
  const Status status = evaluate(options, file, window);
  if (!status.ok()) log_error(status.message());
  return status.ok() ? 0 : 1;
}

}  // namespace hearth
