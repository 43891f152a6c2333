// The commands; each returns the process's exit code and prints its own errors, one line each.
#pragma once

#include <optional>

#include "bench/endpoint.h"
#include "cli/local_server.h"
#include "cli/read_api_keys.h"
#include "sim/plan.h"

namespace hearth {

// Until SIGTERM or SIGINT; what is in work may then end within the timeout.
int serve_command(ServerOptions options, const ApiKeySources& key_sources, Duration shutdown_timeout);

struct ChatOptions {
  std::string url;  // of a running server; empty: the model is loaded here
  TlsTrust trust;
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

struct EvalOptions {
  std::string path;          // a file of choices, or a benchmark's folder
  std::string json;          // file for every question's figures; empty: none
  int64_t shots = 5;         // examples before each question
  int64_t limit = 0;         // questions (of each subject, where there are subjects); 0: all
  int64_t max_tokens = 400;  // of a generated answer
};
int eval_choices_command(const ServerOptions& server, const EvalOptions& options);
int eval_mmlu_command(const ServerOptions& server, const EvalOptions& options);
int eval_gsm8k_command(const ServerOptions& server, const EvalOptions& options);
// Two files that eval wrote, question by question or window by window.
int eval_compare_command(const std::string& first, const std::string& second);

struct QuantizeCommand {
  std::string model, out;          // folders
  std::string scheme = "channel";  // channel, static, block
  std::string calibration;         // a text, with static
  int64_t calibration_tokens = 30000;
  int threads = 0;
};
int quantize_command(const QuantizeCommand& command);

struct PlanCommand {
  std::string model;  // or a shape's name
  PlanOptions options;
  double rate = 0;     // requests/s; 0: not asked for
  double price = 0;    // of a GPU and hour; likewise
  std::string output;  // prefix of a plot; empty: none
};
int plan_command(PlanCommand command);

struct BenchStepOptions {
  std::vector<std::string> steps = {"0+1", "0+64", "0+256", "1000+50"};  // PROMPT+DECODES
  int64_t context = 1000;                                                // of each decode
  int64_t repeat = 30;
  bool masked = false;  // every row draws from a mask of its own
  // The machine's, for the floors; of an H200 where not given.
  double read_tbs = 4.4, fp8_tflops = 1350, act_tflops = 720;
  std::string json;  // file
};
struct BenchFrontendOptions {
  int64_t streams = 1000, tokens = 512;  // at once; of an answer
  double step_ms = 22, seconds = 8, warm_up = 3;
  std::string json;
};
// Only the model's tokenizer is loaded.
int bench_frontend_command(const ServerOptions& server, const BenchFrontendOptions& bench);
int bench_step_command(const ServerOptions& options, const BenchStepOptions& bench);

struct BenchKernelsCommand {
  std::vector<std::string> only, tiles;
  bool peers = false;
  double sustain = 0;  // seconds
  std::string json;    // file
};
int bench_kernels_command(const BenchKernelsCommand& command);

}  // namespace hearth
