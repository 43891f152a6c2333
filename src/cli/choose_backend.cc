// Without the CUDA toolkit the project builds without the CUDA backend, and this is where that shows.
#include "cli/choose_backend.h"

#include <algorithm>
#include <thread>

#include "base/log.h"
#include "cpu/cpu_backend.h"
#ifdef HEARTH_HAVE_CUDA
#include "cuda/cuda_backend.h"
#include "cuda/device.h"
#endif

namespace hearth {
namespace {

// How long a rank on the CPU waits for the others between two layers.
constexpr auto kRankLimit = std::chrono::seconds(60);
[[maybe_unused]] constexpr int kRanksOfOneGpu = 4;  // that have been tried

Result<DType> activation_dtype(const std::string& name, DType if_auto) {
  if (name == "auto") return if_auto;
  if (name == "float32") return DType::kF32;
  if (name == "float16") return DType::kF16;
  if (name == "bfloat16") return DType::kBF16;
  return invalid("dtype: expected auto, float32, float16 or bfloat16");
}

Result<ChosenBackends> cuda_backends(const BackendChoice& choice, const ModelConfig& config, int replica) {
#ifdef HEARTH_HAVE_CUDA
  const DType stored = config.dtype == DType::kF16 ? DType::kF16 : DType::kBF16;
  HEARTH_ASSIGN(const DType act, activation_dtype(choice.dtype, stored));
  if (act == DType::kF32) return unimplemented("dtype: float32 runs on the CPU only");
  const bool one_gpu = choice.one_gpu();
  HEARTH_TRY(cuda::hopper_gpu().status());  // without one the CPU may take the ranks
  if (choice.ranks > 1 && choice.rank_placement == "auto") {
    return unimplemented("several ranks have not run on several GPUs yet: --rank-placement gpus tries it, one-gpu ",
                         "shares out one GPU, --device cpu takes none");
  }
  if (one_gpu && choice.ranks > kRanksOfOneGpu) {
    return unimplemented("--rank-placement one-gpu: expected at most ", kRanksOfOneGpu, " ranks, found ", choice.ranks);
  }
  ChosenBackends out{.ranks = {}, .cuda = true, .ranks_a_device = one_gpu ? choice.ranks : 1};
  if (choice.ranks == 1) {
    HEARTH_ASSIGN(std::unique_ptr<Backend> backend, make_cuda_backend(act, replica));
    out.ranks.push_back(std::move(backend));
    return out;
  }
  const CudaRanks ranks{
      .count = choice.ranks, .first_device = one_gpu ? replica : replica * choice.ranks, .one_gpu = one_gpu};
  HEARTH_ASSIGN(std::vector<std::unique_ptr<Backend>> backends, make_cuda_ranks(act, ranks));
  for (auto& backend : backends) out.ranks.push_back(std::move(backend));
  return out;
#else
  (void)choice, (void)config, (void)replica;
  return Status(Code::kUnavailable, "this hearth was built without CUDA");
#endif
}

Result<ChosenBackends> cpu_backends(const BackendChoice& choice) {
  HEARTH_ASSIGN(const DType act, activation_dtype(choice.dtype, DType::kF32));
  const int given = choice.threads > 0 ? choice.threads : static_cast<int>(std::thread::hardware_concurrency());
  const int threads = std::max(1, given / (choice.replicas * choice.ranks));
  if (choice.ranks == 1) return ChosenBackends{{make_cpu_backend(act, threads)}};
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
    for (int replica = 0; replica < choice.replicas; ++replica) {
      auto cuda = cuda_backends(choice, config, replica);
      if (cuda.ok()) {
        out.push_back(std::move(cuda).value());
        continue;
      }
      if (replica > 0) return cuda.status().prefixed(cat("--replicas ", choice.replicas));
      if (!any || cuda.status().code() != Code::kUnavailable) {
        return choice.ranks == 1 ? cuda.status() : cuda.status().prefixed(cat("--tensor-parallel-size ", choice.ranks));
      }
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
