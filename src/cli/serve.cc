// `hearth serve`: the port opens at once, the model loads behind it, a signal drains.
#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <future>

#include "base/log.h"
#include "cli/commands.h"
#include "cli/progress.h"

namespace hearth {
namespace {

using std::chrono::milliseconds;

// The signal that came in time; else 0 or below. They are blocked in every thread, so only this sees them.
int next_signal(const sigset_t& signals, milliseconds within) {
  const timespec time{within.count() / 1000, within.count() % 1000 * 1'000'000};
  return sigtimedwait(&signals, nullptr, &time);
}

// What SIGHUP reads again. Where that fails, what was there stays.
void reload(LocalServer& server, const ServerOptions& options, const ApiKeySources& key_sources) {
  if (!options.ssl_certificate.empty()) {
    const Status status = server.reload_tls(options);
    if (status.ok()) {
      log_info("the certificate was read again");
    } else {
      log_error("the old certificate stays: ", status.message());
    }
  }
  if (!key_sources.file.empty()) {
    auto keys = read_api_keys(key_sources);
    if (keys.ok()) {
      log_info("the API keys were read again: ", keys->size());
      server.use_keys(std::move(keys).value());
    } else {
      log_error("the old API keys stay: ", keys.status().message());
    }
  }
}

}  // namespace

int serve_command(ServerOptions options, const ApiKeySources& key_sources, Duration shutdown_timeout) {
  const auto start = std::chrono::steady_clock::now();
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  const bool tls = !options.ssl_certificate.empty();
  // Else the end of a terminal ends the server, as it does others.
  if (tls || !key_sources.file.empty()) sigaddset(&signals, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  auto keys = read_api_keys(key_sources);
  if (!keys.ok()) {
    log_error(keys.status().message());
    return 1;
  }
  options.api_keys = std::move(keys).value();
  // Before the port opens: most who mistype something mistype this.
  if (const auto found = find_model(options.model); !found.ok()) {
    log_error(found.status().message());
    return 1;
  }
  LocalServer server;
  if (Status status = server.listen(options); !status.ok()) {
    log_error(status.message());
    return 1;
  }
  const bool ipv6 = options.host.find(':') != options.host.npos;
  const std::string url =
      cat(tls ? "https://" : "http://", ipv6 ? cat("[", options.host, "]") : options.host, ":", server.port());
  log_info("loading; ", url, " answers 503 until then");
  auto loading = std::async(std::launch::async, [&] {
    ProgressLine line("loading");
    return server.load(options, [&](int64_t loaded, int64_t total) { line.update(loaded, total); });
  });
  while (loading.wait_for(milliseconds(0)) != std::future_status::ready) {
    // Nobody is being served, and a load cannot be interrupted.
    const int signal = next_signal(signals, milliseconds(10));
    if (signal == SIGHUP) reload(server, options, key_sources);
    if (signal > 0 && signal != SIGHUP) std::_Exit(0);
  }
  if (Status status = loading.get(); !status.ok()) {
    log_error(status.message());
    return 1;
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  log_info("ready in ", static_cast<double>(static_cast<int64_t>(took.count() * 100)) / 100,
           " s: ", server.description(), ", ", url);

  std::vector<bool> said_failed(server.replica_health().size());
  while (true) {
    const int signal = next_signal(signals, std::chrono::seconds(1));
    if (signal == SIGHUP) reload(server, options, key_sources);
    if (signal > 0 && signal != SIGHUP) break;
    if (Status status = server.health(); !status.ok()) {
      log_error("the device failed: ", status.message());
      return 1;
    }
    const std::vector<Status> each = server.replica_health();
    for (size_t i = 0; i < each.size(); ++i) {
      if (each[i].ok() || said_failed[i]) continue;
      said_failed[i] = true;
      const auto left = std::ranges::count_if(each, &Status::ok);
      log_error("replica ", i, " failed: ", each[i].message(), "; ", left, " of ", each.size(), " serve on");
    }
  }
  log_info("stopping: requests in work have ", static_cast<int64_t>(seconds(shutdown_timeout)), " s to end");
  std::thread([signals] {
    for (int signal = 0; signal <= 0 || signal == SIGHUP;) signal = next_signal(signals, std::chrono::hours(1));
    std::_Exit(1);  // told twice
  }).detach();
  const bool all_ended = server.stop(shutdown_timeout);
  log_info("stopped");
  if (!all_ended) std::_Exit(0);  // a call that nobody waits for any more
  return 0;
}

}  // namespace hearth
