// `hearth quantize MODEL OUT`.
#include <atomic>
#include <csignal>
#include <cstdio>

#include "base/log.h"
#include "cli/commands.h"
#include "cli/load_text.h"
#include "cli/progress.h"
#include "quantize/calibrate.h"
#include "quantize/quantize_model.h"
#include "weights/mapped_file.h"

namespace hearth {
namespace {

constexpr int64_t kMaxTextBytes = 1 << 30;

std::atomic<bool> stop = false;

// A signal ends the work in order. While nothing lies on the disk a second one ends it at once.
void stop_on_signals(bool second_kills) {
  struct sigaction action = {};
  action.sa_handler = [](int) { stop = true; };
  action.sa_flags = second_kills ? static_cast<int>(SA_RESETHAND) : 0;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaction(signal, &action, nullptr);
}

Result<std::map<std::string, float>> calibrate(const OpenedModel& opened, const QuantizeCommand& command) {
  HEARTH_ASSIGN(const std::string text, read_text_file(command.calibration, kMaxTextBytes));
  HEARTH_ASSIGN(const LoadedText loaded, load_text(opened, LoadFormat::kAuto, {}));
  HEARTH_ASSIGN(std::vector<int32_t> tokens, loaded.tokenizer->encode(text));
  tokens.resize(std::min(tokens.size(), static_cast<size_t>(command.calibration_tokens)));
  ProgressLine line("calibrating", "tokens", 1);
  return largest_inputs(opened, tokens,
                        {.threads = command.threads, .stop = &stop, .progress = [&](int64_t done, int64_t total) {
                           line.update(done, total);
                         }});
}

Status quantize(const QuantizeCommand& command) {
  QuantizeOptions options{.stop = &stop};
  if (command.scheme == "static") options.scheme = Fp8Scheme::kStatic;
  if (command.scheme == "block") options.scheme = Fp8Scheme::kBlock;
  if ((options.scheme == Fp8Scheme::kStatic) == command.calibration.empty()) {
    return invalid("--calibrate TEXT belongs to --scheme static, and the other way round");
  }
  HEARTH_ASSIGN(const OpenedModel opened, open_model(command.model));
  HEARTH_TRY(check_quantize(opened, command.out, options));
  stop_on_signals(/*second_kills=*/true);
  std::map<std::string, float> inputs;
  if (!command.calibration.empty()) {
    HEARTH_ASSIGN(inputs, calibrate(opened, command));
  }
  stop_on_signals(/*second_kills=*/false);
  ProgressLine line("quantizing");
  options.progress = [&](int64_t done, int64_t total) { line.update(done, total); };
  HEARTH_ASSIGN(const QuantizeResult result, quantize_model(opened, command.out, inputs, options));
  line.finish();
  std::printf("%s: %lld matrices in e4m3, %lld MiB in %lld %s\n", command.out.c_str(),
              static_cast<long long>(result.matrices), static_cast<long long>(ceil_div(result.bytes, 1 << 20)),
              static_cast<long long>(result.files), result.files == 1 ? "file" : "files");
  return {};
}

}  // namespace

int quantize_command(const QuantizeCommand& command) {
  const Status status = quantize(command);
  if (!status.ok()) log_error(status.message());
  return status.ok() ? 0 : 1;
}

}  // namespace hearth
