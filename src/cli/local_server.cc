// The order of things: port, checkpoint, tokenizer, weights, KV cache, engine, ready.
#include "cli/local_server.h"

#include <sys/resource.h>

#include <algorithm>

#include "api/sampling_defaults.h"
#include "base/log.h"
#include "cli/generation_config.h"
#include "cli/load_engine.h"
#include "cli/server_info.h"

namespace hearth {
namespace {

constexpr int64_t kNumWorkers = 2;
constexpr int64_t kDescriptorsKept = 64;  // for files, and the sockets of no client

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
  if (!options.trace.empty() && options.backend.replicas > 1) {
    return unimplemented("--trace: expected --replicas 1, found ", options.backend.replicas);
  }
  HttpLimits limits = options.http;
  if (BodyBudget::largest(std::min(limits.max_total_bytes, limits.max_client_bytes)) < limits.max_body_bytes) {
    return invalid("--max-body-bytes must be at most seven eighths of --max-total-request-bytes and of ",
                   "--max-client-request-bytes");
  }
  const int64_t descriptors = std::max<int64_t>(raise_descriptor_limit() - kDescriptorsKept, 16);
  limits.max_connections = std::min(descriptors, limits.max_connections);
  routes_.emplace(ApiKeys(options.api_keys), Cors(options.allowed_origins), kNumWorkers);
  http_ = std::make_unique<HttpServer>(
      limits,
      [this](HttpRequest&& request, std::shared_ptr<Exchange> exchange) {
        routes_->handle(std::move(request), std::move(exchange));
      },
      [this](HttpRequest& request) { return routes_->admit(request); });
  if (!options.ssl_certificate.empty()) HEARTH_TRY(reload_tls(options));
  HEARTH_TRY(http_->listen(options.host, options.port));
  io_ = std::thread([this] { http_->run(); });
  return {};
}

Status LocalServer::reload_tls(const ServerOptions& options) {
  HEARTH_ASSIGN(auto tls, TlsContext::load(options.ssl_certificate, options.ssl_key));
  http_->use_tls(std::move(tls));
  return {};
}

Status LocalServer::load(const ServerOptions& given, LoadProgress progress) {
  HEARTH_ASSIGN(LoadedEngine loaded, load_engine(given, clock_, std::move(progress)));
  const ServerOptions& options = loaded.options;
  const std::shared_ptr<Model>& model = loaded.model;
  text_ = std::move(loaded.text);
  engine_ = std::move(loaded.engine);

  ServingOptions serving;
  serving.model_names = options.served_model_names;
  if (serving.model_names.empty()) serving.model_names.push_back(default_name(options.model));
  serving.limits.defaults = loaded.sampling;
  if (const std::string said = describe_defaults(serving.limits.defaults); !said.empty()) {
    log_info("a request that names none gets ", said, ", from ", loaded.generation.source,
             " (--generation-config none: OpenAI's defaults)");
  }
  serving.limits.vocab_size = model->vocab_size();
  serving.limits.max_model_len = model->max_model_len();
  serving.limits.max_logprobs = options.max_logprobs;
  serving.limits.max_choices = std::min<int64_t>(serving.limits.max_choices, options.max_num_queued_requests);
  serving.format = loaded.format;
  serving.end_tokens = loaded.end_tokens;
  serving.device = loaded.backend_name;
  serving.keeps_targets = options.targets.any() || options.request_targets;
  serving.server_info = server_info(loaded, serving.model_names.front());
  serving.model_info = model_info(loaded, serving.model_names.front());
  metrics_.emplace(serving.model_names.front(), options.backend.replicas);
  serving_.emplace(std::move(serving), *text_.tokenizer, text_.chat_template ? &*text_.chat_template : nullptr,
                   *engine_, clock_, &*metrics_);
  description_ =
      cat(model_name(), " (", model->architecture(), ") on ", loaded.backend_name, ", context ", model->max_model_len(),
          ", KV cache of ", loaded.num_blocks * kBlockSize, " tokens", options.backend.replicas > 1 ? " each" : "");
  routes_->set_model(*serving_, *metrics_);
  return {};
}

bool LocalServer::stop(Duration timeout) {
  if (!io_.joinable()) return true;
  const TimePoint end = clock_.now() + timeout;
  const auto left = [&] { return std::max(end - clock_.now(), Duration(0)); };
  routes_->set_draining();
  routes_->finish_calls(left());
  if (engine_) engine_->drain(left());
  http_->stop(left());
  io_.join();
  return routes_->finish_calls(Duration(0));
}

LocalServer::~LocalServer() { stop(Duration(0)); }

}  // namespace hearth
