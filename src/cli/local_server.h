// LocalServer: everything behind `hearth serve`, in this process: HTTP, the API, the engine, a model on a backend.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "cli/load_runner.h"
#include "cli/load_text.h"
#include "engine/engine.h"
#include "server/http_server.h"
#include "server/routes.h"

namespace hearth {

class LocalServer {
 public:
  ~LocalServer();
  // Opens the port; everything that needs the model is a 503 until it is loaded.
  Status listen(const ServerOptions& options);
  // Reads the certificate and its key again, for connections to come. Where that fails, they keep the old ones.
  Status reload_tls(const ServerOptions& options);
  // For requests to come.
  void use_keys(std::vector<std::string> keys) { routes_->use_keys(ApiKeys(std::move(keys))); }
  Status load(const ServerOptions& options, LoadProgress progress);
  int port() const { return http_->port(); }
  const std::string& model_name() const { return serving_->options().model_names.front(); }
  std::string description() const { return description_; }  // of what is loaded, one line
  Status health() const { return engine_->health(); }
  std::vector<Status> replica_health() const { return engine_->replica_health(); }
  // Requests in work may end until the time is up; then they get a 503. False: a worker is still in a call, which the
  // destructor waits for.
  bool stop(Duration timeout);

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
