// The script and its cases travel in the environment: no file is needed where the binary runs.
#include "cuda/bench/peers.h"

#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/embed.h"
#include "base/log.h"

HEARTH_EMBED(kernel_peers, HEARTH_KERNEL_PEERS)

namespace hearth::cuda {

Result<std::vector<std::optional<Peer>>> measure_peers(const Json& cases, double sustain) {
  setenv("HEARTH_PEERS", std::string(embedded::kernel_peers()).c_str(), 1);
  setenv("HEARTH_PEER_CASES", cases.dump().c_str(), 1);
  const std::string command = "exec python3 -c \"$HEARTH_PEERS\" \"$HEARTH_PEER_CASES\" " + std::to_string(sustain);
  FILE* const python = popen(command.c_str(), "r");
  if (!python) return Status(Code::kUnavailable, "no process for the peers");
  // A line a case: {"peer": ..., "us": ...}, or null.
  std::vector<std::optional<Peer>> out(cases.size());
  char line[512];
  for (size_t i = 0; i < out.size() && std::fgets(line, sizeof line, python); ++i) {
    bool odd = false;
    try {
      const Json peer = Json::parse(line);
      if (peer.is_object()) out[i] = Peer{peer.at("peer").get<std::string>(), peer.at("us").get<double>()};
      odd = out[i] && !(out[i]->us > 0);
    } catch (const nlohmann::json::exception&) {
      odd = true;
    }
    if (odd) {
      pclose(python);
      return internal_error("peers.py: an odd line");
    }
  }
  const int status = pclose(python);
  if (status != 0) log_warning("peers are missing: peers.py ended with ", WEXITSTATUS(status));
  return out;
}

}  // namespace hearth::cuda
