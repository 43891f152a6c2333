// Peers: what PyTorch's own products take on this GPU, measured by torch_peers.py, which is in the binary.
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

// By case; none where PyTorch could not run it, and for all of them, with a warning, where python3 has no torch with a
// GPU. A case is a product, {"dtype", "groups", "n", "k", "rows": of each group}, or attention, {"prompts", "context",
// "heads", "kv_heads", "head_dim"}.
Result<std::vector<std::optional<Peer>>> measure_peers(const Json& cases);

}  // namespace hearth::cuda
