// LocalServer: everything behind `hearth serve`, in this process: HTTP, the API, the engine, a model on a backend.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "cli/choose_backend.h"
#include "cli/load_text.h"
#include "engine/engine.h"
#include "server/http_server.h"
#include "server/routes.h"

namespace hearth {

struct ServerOptions {
  std::string model;
  std::string host = "127.0.0.1";
  int port = 8000;
  BackendChoice backend;
  std::string load_format = "auto";   // auto, dummy
  std::string quantization = "none";  // none, fp8
  std::string kv_cache_dtype = "auto";
  int64_t kv_cache_bytes = 0;          // 0: a share of the free memory
  int64_t max_model_len = 0;           // 0: the checkpoint's
  int64_t max_num_seqs = 0;            // 0: 256 on a GPU, 64 on a CPU
  int64_t max_num_batched_tokens = 0;  // 0: 1,024 on a GPU, 512 on a CPU
  int64_t max_num_queued_requests = 256;
  LatencyTargets targets;
  int64_t max_logprobs = 20;
  int64_t experts_per_token = 0;       // 0: the checkpoint's
  std::string prefix_cache = "exact";  // exact, fast, off
  std::string chat_template;           // a file
  std::vector<std::string> served_model_names;
  std::vector<std::string> api_keys;

  ModelOptions model_options() const;
};

class LocalServer {
 public:
  ~LocalServer();
  // Opens the port; everything that needs the model is a 503 until it is loaded.
  Status listen(const ServerOptions& options);
  Status load(const ServerOptions& options, LoadProgress progress);
  int port() const { return http_->port(); }
  const std::string& model_name() const { return serving_->options().model_names.front(); }
  std::string description() const { return description_; }  // of what is loaded, one line
  Status health() const { return engine_->health(); }
  // Requests in work may end until the time is up; then all threads are joined.
  void stop(Duration drain_timeout);

 private:
  SteadyClock clock_;
  std::unique_ptr<HttpServer> http_;
  LoadedText text_;
  std::optional<Metrics> metrics_;
  std::unique_ptr<Engine> engine_;
  std::optional<Serving> serving_;
  std::optional<Routes> routes_;  // before what its workers use goes away
  std::thread io_;
  std::string description_;
};

}  // namespace hearth
