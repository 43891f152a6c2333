// The order of things: port, checkpoint, tokenizer, weights, KV cache, engine, ready.
#include "cli/local_server.h"

#include <sys/resource.h>

#include <algorithm>

#include "api/sampling_defaults.h"
#include "base/log.h"
#include "cli/generation_config.h"
#include "engine/step_trace.h"

namespace hearth {
namespace {

constexpr int64_t kNumWorkers = 2;
constexpr int64_t kDescriptorsKept = 64;  // for files, and the sockets of no client
constexpr auto kCloseGrace = std::chrono::seconds(5);

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

}  // namespace

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
  EngineOptions engine_options;
  if (!given.trace.empty()) {
    HEARTH_ASSIGN(engine_options.trace, StepTrace::open(given.trace));
  }
  const LoadFormat format = given.load_format == "dummy" ? LoadFormat::kDummy : LoadFormat::kAuto;
  HEARTH_ASSIGN(OpenedModel opened, open_model(given.model, format));
  HEARTH_ASSIGN(text_, load_text(opened, format, given.chat_template));
  HEARTH_ASSIGN(const GenerationConfig generation, read_generation_config(opened, given.generation_config));
  auto defaults = sampling_defaults(generation.fields, given.sampling);
  if (!defaults.ok()) return defaults.status().prefixed(generation.source);

  HEARTH_ASSIGN(LoadedRunner loaded, load_runner(std::move(opened), given, std::move(progress)));
  const ServerOptions& options = loaded.options;
  const std::shared_ptr<Model>& model = loaded.model;

  engine_options.max_num_seqs = options.max_num_seqs;
  engine_options.max_num_batched_tokens = options.max_num_batched_tokens;
  engine_options.max_num_queued_requests = options.max_num_queued_requests;
  engine_options.max_queue_bytes = options.max_queue_bytes;
  engine_options.targets = options.targets;
  engine_options.max_model_len = model->max_model_len();
  engine_options.max_logprobs = options.max_logprobs;
  engine_options.prefix_cache = options.prefix_cache != "off";
  engine_options.prefix_mode = options.prefix_cache == "fast" ? PrefixMode::kFast : PrefixMode::kExact;
  engine_options.end_tokens = loaded.config.eos;
  if (const auto eos = text_.tokenizer->eos(); eos && std::ranges::count(engine_options.end_tokens, *eos) == 0) {
    engine_options.end_tokens.push_back(*eos);
  }
  engine_ = make_engine(std::move(loaded.runner), engine_options, clock_);

  ServingOptions serving;
  serving.model_names = options.served_model_names;
  if (serving.model_names.empty()) serving.model_names.push_back(default_name(options.model));
  serving.limits.defaults = std::move(defaults).value();
  if (const std::string said = describe_defaults(serving.limits.defaults); !said.empty()) {
    log_info("a request that names none gets ", said, ", from ", generation.source,
             " (--generation-config none: OpenAI's defaults)");
  }
  serving.limits.vocab_size = model->vocab_size();
  serving.limits.max_model_len = model->max_model_len();
  serving.limits.max_logprobs = options.max_logprobs;
  serving.limits.max_choices = std::min<int64_t>(serving.limits.max_choices, options.max_num_queued_requests);
  metrics_.emplace(serving.model_names.front());
  serving_.emplace(std::move(serving), *text_.tokenizer, text_.chat_template ? &*text_.chat_template : nullptr,
                   *engine_, clock_, &*metrics_);
  description_ = cat(model_name(), " (", model->architecture(), ") on ", loaded.backend_name, ", context ",
                     model->max_model_len(), ", KV cache of ", loaded.num_blocks * kBlockSize, " tokens");
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
