// The order of things: port, checkpoint, tokenizer, weights, KV cache, engine, ready.
#include "cli/local_server.h"

#include <sys/resource.h>

#include <algorithm>
#include <bit>

#include "cli/choose_backend.h"
#include "engine/background_runner.h"
#include "engine/model_runner.h"
#include "models/kv_cache.h"

namespace hearth {
namespace {

constexpr int64_t kNumWorkers = 2;
constexpr int64_t kDescriptorsKept = 64;  // for files, and the sockets of no client
constexpr int64_t kMaxDefaultKvBytes = int64_t{4} << 30;
constexpr auto kCloseGrace = std::chrono::seconds(5);
constexpr int64_t kPromptLogitRows = 64;  // of a step, beside one a sequence

// As many sockets as the system lets us have.
int64_t raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 256;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  getrlimit(RLIMIT_NOFILE, &limit);
  return static_cast<int64_t>(std::min<rlim_t>(limit.rlim_cur, 1 << 20));
}

// The last part of a path; org/name of a cache stays whole. Paths are not told to clients.
std::string default_name(const std::string& model) {
  std::error_code ignored;
  if (!std::filesystem::exists(model, ignored)) return model;
  const std::filesystem::path path = std::filesystem::weakly_canonical(model, ignored);
  return path.extension() == ".gguf" ? path.stem().string() : path.filename().string();
}

// The rest of a GPU is for the cache, but for the kernels' own workspace; a CPU has other things to hold.
int64_t default_kv_bytes(const ChosenBackend& chosen, int64_t useful) {
  const int64_t free = chosen.backend->free_bytes();
  return chosen.cuda ? free / 10 * 9 : std::min({free / 4, kMaxDefaultKvBytes, useful});
}

Result<int64_t> kv_blocks(const ServerOptions& options, const ChosenBackend& chosen, const Model& model) {
  const int64_t block = kv_block_bytes(model.kv_spec());
  const int64_t one_sequence = ceil_div(model.max_model_len(), kBlockSize);
  const int64_t useful = one_sequence * options.max_num_seqs;
  const int64_t bytes = options.kv_cache_bytes ? options.kv_cache_bytes : default_kv_bytes(chosen, useful * block);
  if (bytes / block < one_sequence) {
    return Status(Code::kResourceExhausted,
                  cat("KV cache: a context of ", model.max_model_len(), " tokens needs ", (one_sequence * block) >> 20,
                      " MiB, there are ", bytes >> 20, " MiB; lower --max-model-len or raise --kv-cache-memory-bytes"));
  }
  return std::min(bytes / block, useful);
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
  out.max_model_len = max_model_len;
  out.experts_per_token = experts_per_token;
  return out;
}

Status LocalServer::listen(const ServerOptions& options) {
  HttpLimits limits;
  limits.max_connections = std::clamp<int64_t>(raise_descriptor_limit() - kDescriptorsKept, 16, limits.max_connections);
  routes_.emplace(ApiKeys(options.api_keys), kNumWorkers);
  http_ = std::make_unique<HttpServer>(limits, [this](HttpRequest&& request, std::shared_ptr<Exchange> exchange) {
    routes_->handle(std::move(request), std::move(exchange));
  });
  HEARTH_TRY(http_->listen(options.host, options.port));
  io_ = std::thread([this] { http_->run(); });
  return {};
}

Status LocalServer::load(const ServerOptions& given, LoadProgress progress) {
  const LoadFormat format = given.load_format == "dummy" ? LoadFormat::kDummy : LoadFormat::kAuto;
  HEARTH_ASSIGN(OpenedModel opened, open_model(given.model, format));
  HEARTH_ASSIGN(text_, load_text(opened, format, given.chat_template));

  HEARTH_ASSIGN(const ChosenBackend chosen, choose_backend(given.backend, opened.config));
  const std::shared_ptr<Backend>& backend = chosen.backend;
  ServerOptions options = given;
  if (options.max_num_seqs == 0) options.max_num_seqs = chosen.cuda ? 256 : 64;
  if (options.max_num_batched_tokens == 0) options.max_num_batched_tokens = chosen.cuda ? 1024 : 512;
  const ModelOptions model_options = options.model_options();
  HEARTH_ASSIGN(LoadedModel loaded, load_model(std::move(opened), *backend, model_options, std::move(progress)));
  const std::shared_ptr<Model> model = std::move(loaded.model);

  ModelRunnerOptions runner_options;
  runner_options.max_tokens = model_options.max_tokens;
  runner_options.max_sequences = options.max_num_seqs;
  runner_options.max_logits = model_options.max_logits;
  runner_options.max_logprobs = options.max_logprobs;
  runner_options.max_model_len = model->max_model_len();
  HEARTH_ASSIGN(runner_options.num_blocks, kv_blocks(options, chosen, *model));
  if (chosen.cuda) runner_options.token_buckets = token_buckets(model_options.max_tokens);
  HEARTH_ASSIGN(std::unique_ptr<Runner> runner, make_model_runner(backend, model, runner_options));

  EngineOptions engine_options;
  engine_options.max_num_seqs = options.max_num_seqs;
  engine_options.max_num_batched_tokens = options.max_num_batched_tokens;
  engine_options.max_num_queued_requests = options.max_num_queued_requests;
  engine_options.targets = options.targets;
  engine_options.max_model_len = model->max_model_len();
  engine_options.max_logprobs = options.max_logprobs;
  engine_options.prefix_cache = options.prefix_cache != "off";
  engine_options.prefix_mode = options.prefix_cache == "fast" ? PrefixMode::kFast : PrefixMode::kExact;
  engine_options.end_tokens = loaded.opened.config.eos;
  if (const auto eos = text_.tokenizer->eos(); eos && std::ranges::count(engine_options.end_tokens, *eos) == 0) {
    engine_options.end_tokens.push_back(*eos);
  }
  if (!chosen.cuda) runner = std::make_unique<BackgroundRunner>(std::move(runner));
  engine_ = make_engine(std::move(runner), engine_options, clock_);

  ServingOptions serving;
  serving.model_names = options.served_model_names;
  if (serving.model_names.empty()) serving.model_names.push_back(default_name(options.model));
  serving.limits.vocab_size = model->vocab_size();
  serving.limits.max_model_len = model->max_model_len();
  serving.limits.max_logprobs = options.max_logprobs;
  serving.limits.max_choices = std::min<int64_t>(serving.limits.max_choices, options.max_num_queued_requests);
  serving.max_num_queued_requests = options.max_num_queued_requests;
  metrics_.emplace(serving.model_names.front());
  serving_.emplace(std::move(serving), *text_.tokenizer, text_.chat_template ? &*text_.chat_template : nullptr,
                   *engine_, clock_, &*metrics_);
  description_ = cat(model_name(), " (", model->architecture(), ") on ", backend->name(), ", context ",
                     model->max_model_len(), ", KV cache of ", runner_options.num_blocks * kBlockSize, " tokens");
  routes_->set_model(*serving_, *metrics_);
  return {};
}

void LocalServer::stop(Duration drain_timeout) {
  if (!io_.joinable()) return;
  routes_->set_draining();
  if (engine_) engine_->drain(drain_timeout);
  http_->stop(kCloseGrace);
  io_.join();
}

LocalServer::~LocalServer() { stop(Duration(0)); }

}  // namespace hearth
