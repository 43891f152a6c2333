// `hearth bench kernels`: the table and its file.
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "cli/commands.h"
#include "cli/commit.h"
#include "cli/write_json.h"
#ifdef HEARTH_HAVE_CUDA
#include "cuda/bench/bench_kernels.h"
#endif

namespace hearth {
namespace {

Result<Json> measure(const BenchKernelsCommand& command) {
#ifdef HEARTH_HAVE_CUDA
  return cuda::bench_kernels({command.only, command.tiles, command.peers, command.sustain});
#else
  (void)command;
  return Status(Code::kUnavailable, "this hearth was built without CUDA");
#endif
}

Status bench_kernels(const BenchKernelsCommand& command) {
  // Asked first: minutes of measuring are not lost on a wrong path.
  if (!command.json.empty() && !std::ofstream(command.json, std::ios::app)) {
    return Status(Code::kUnavailable, cat(command.json, ": cannot be written"));
  }
  HEARTH_ASSIGN(const Json measured, measure(command));
  if (command.json.empty()) return {};
  char date[16];
  const std::time_t now = std::time(nullptr);
  std::strftime(date, sizeof date, "%Y-%m-%d", std::gmtime(&now));
  Json document{{"gpu", measured.at("gpu")}, {"date", date}, {"commit", commit()}};
  document.update(measured);
  return write_json(command.json, document);
}

}  // namespace

int bench_kernels_command(const BenchKernelsCommand& command) {
  const Status status = bench_kernels(command);
  if (!status.ok()) log_error(status.message());
  return status.ok() ? 0 : 1;
}

}  // namespace hearth
