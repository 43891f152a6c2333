// Which backends run a model. The only code that names both kinds.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "models/config.h"
#include "ops/backend.h"

namespace hearth {

// `device`: cpu, cuda, or auto, a Hopper GPU where there is one, else the CPU. `dtype`: of activations; auto is float32
// on a CPU, on a GPU the checkpoint's own 16 bit.
struct BackendChoice {
  std::string device = "auto";
  std::string dtype = "auto";
  int threads = 0;  // of the CPU's backends together; 0: every core
  int ranks = 1;    // that share the model, each on a backend of its own
  // Of the model, each with as many ranks: on GPUs the replica takes those behind its predecessors'.
  int replicas = 1;
  // gpus: a GPU a rank. one-gpu: all ranks of a replica on one, each with its share of the multiprocessors; slower than
  // a single rank, for tests. auto: a GPU has one rank, several are refused until they have run on several GPUs.
  std::string rank_placement = "auto";
  bool one_gpu() const { return rank_placement == "one-gpu"; }
};

struct ChosenBackends {
  std::vector<std::shared_ptr<Backend>> ranks;
  bool cuda = false;  // steps are captured, and run beside the calling thread
  int64_t ranks_a_device = 1;

  Backend& first() const { return *ranks[0]; }
  std::string name() const { return ranks.size() == 1 ? first().name() : cat(ranks.size(), " x ", first().name()); }
};

// Of each replica.
Result<std::vector<ChosenBackends>> choose_replicas(const BackendChoice& choice, const ModelConfig& config);
// Of a single one.
Result<ChosenBackends> choose_backends(const BackendChoice& choice, const ModelConfig& config);

}  // namespace hearth
