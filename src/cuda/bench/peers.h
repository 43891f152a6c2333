// Peers: what PyTorch's and, where it is installed, vLLM's kernels take on this GPU, measured by peers.py, which is in
// the binary.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace hearth::cuda {

struct Peer {
  std::string name;  // what was called
  double us = 0;
};

// The fastest by case; none where nobody could run it, and for all of them, with a warning, where python3 has no torch
// with a GPU. A case is a product, {"dtype", "groups", "n", "k", "rows": of each group}, or attention, {"kv",
// "prompts", "generated", "context", "heads", "kv_heads", "head_dim"}. `sustain`: see time_calls.
Result<std::vector<std::optional<Peer>>> measure_peers(const Json& cases, double sustain = 0);

}  // namespace hearth::cuda
