// The commands; each returns the process's exit code and prints its own errors, one line each.
#pragma once

#include <optional>

#include "cli/local_server.h"

namespace hearth {

// Until SIGTERM or SIGINT; what is in work may then end within the timeout.
int serve_command(const ServerOptions& options, Duration shutdown_timeout);

struct ChatOptions {
  std::string url;    // of a running server; empty: the model is loaded here
  std::string model;  // of the server; empty: its first
  std::string api_key;
  std::string system;                // message put first
  std::optional<float> temperature;  // none: the server's
  int64_t max_tokens = 0;            // 0: as many as fit
};
int chat_command(ServerOptions server, ChatOptions options);

struct PerplexityOptions {
  std::string file;       // the text
  int64_t window = 2048;  // tokens; the model's length where that is less
  std::string json;       // file
};
// Of the server's options, those of the model count.
int eval_perplexity_command(const ServerOptions& server, const PerplexityOptions& options);

struct BenchStepOptions {
  std::vector<std::string> steps = {"0+1", "0+64", "0+256", "1000+50"};  // PROMPT+DECODES
  int64_t context = 1000;                                                // of each decode
  int64_t repeat = 30;
  // The machine's, for the floors; of an H200 where not given.
  double read_tbs = 4.4, fp8_tflops = 1350, act_tflops = 720;
  std::string json;  // file
};
int bench_step_command(const ServerOptions& options, const BenchStepOptions& bench);

struct BenchKernelsCommand {
  std::vector<std::string> only, tiles;
  bool peers = false;
  double sustain = 0;  // seconds
  std::string json;    // file
};
int bench_kernels_command(const BenchKernelsCommand& command);

}  // namespace hearth
