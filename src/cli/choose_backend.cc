// Without the CUDA toolkit the project builds without the CUDA backend, and this is where that shows.
#include "cli/choose_backend.h"

#include <algorithm>
#include <thread>

#include "base/log.h"
#include "cpu/cpu_backend.h"
#ifdef HEARTH_HAVE_CUDA
#include "cuda/cuda_backend.h"
#endif

namespace hearth {
namespace {

// How long a rank on the CPU waits for the others between two layers.
constexpr auto kRankLimit = std::chrono::seconds(60);

Result<DType> activation_dtype(const std::string& name, DType if_auto) {
  if (name == "auto") return if_auto;
  if (name == "float32") return DType::kF32;
  if (name == "float16") return DType::kF16;
  if (name == "bfloat16") return DType::kBF16;
  return invalid("dtype: expected auto, float32, float16 or bfloat16");
}

Result<std::shared_ptr<Backend>> cuda_backend(const BackendChoice& choice, const ModelConfig& config, int device) {
#ifdef HEARTH_HAVE_CUDA
  const DType stored = config.dtype == DType::kF16 ? DType::kF16 : DType::kBF16;
  HEARTH_ASSIGN(const DType act, activation_dtype(choice.dtype, stored));
  if (act == DType::kF32) return unimplemented("dtype: float32 runs on the CPU only");
  HEARTH_ASSIGN(std::unique_ptr<Backend> backend, make_cuda_backend(act, device));
  return std::shared_ptr<Backend>(std::move(backend));
#else
  (void)choice, (void)config, (void)device;
  return Status(Code::kUnavailable, "this hearth was built without CUDA");
#endif
}

Result<ChosenBackends> cpu_backends(const BackendChoice& choice) {
  HEARTH_ASSIGN(const DType act, activation_dtype(choice.dtype, DType::kF32));
  const int given = choice.threads > 0 ? choice.threads : static_cast<int>(std::thread::hardware_concurrency());
  const int threads = std::max(1, given / (choice.replicas * choice.ranks));
  if (choice.ranks == 1) return ChosenBackends{{make_cpu_backend(act, threads)}, false};
  ChosenBackends out;
  for (auto& comm : make_host_communicators(choice.ranks, kRankLimit)) {
    out.ranks.push_back(make_cpu_backend(act, threads, std::move(comm)));
  }
  return out;
}

}  // namespace

Result<std::vector<ChosenBackends>> choose_replicas(const BackendChoice& choice, const ModelConfig& config) {
  std::vector<ChosenBackends> out;
  const bool any = choice.device == "auto";
  if (choice.device == "cuda" || (any && choice.dtype != "float32")) {
    for (int device = 0; device < choice.replicas; ++device) {
      auto cuda = cuda_backend(choice, config, device);
      if (cuda.ok()) {
        if (choice.ranks > 1) {
          return unimplemented("tensor-parallel-size: expected 1 on a GPU, found ", choice.ranks,
                               "; several ranks run on the CPU alone, with --device cpu");
        }
        out.push_back({{std::move(cuda).value()}, true});
        continue;
      }
      if (device > 0) return cuda.status().prefixed(cat("--replicas ", choice.replicas));
      if (!any || cuda.status().code() != Code::kUnavailable) return cuda.status();
      log_info("on the CPU: ", cuda.status().message());
      break;
    }
    if (!out.empty()) return out;
  }
  for (int replica = 0; replica < choice.replicas; ++replica) {
    HEARTH_ASSIGN(out.emplace_back(), cpu_backends(choice));
  }
  return out;
}

Result<ChosenBackends> choose_backends(const BackendChoice& choice, const ModelConfig& config) {
  HEARTH_ASSIGN(std::vector<ChosenBackends> replicas, choose_replicas(choice, config));
  HEARTH_CHECK(replicas.size() == 1);
  return std::move(replicas[0]);
}

}  // namespace hearth
