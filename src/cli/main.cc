// The hearth binary: its commands and their flags. Names are vLLM's where the meaning is the same.
#include <CLI/CLI.hpp>

#include <csignal>
#include <cstdio>
#include <new>

#include "base/log.h"
#include "base/version.h"
#include "bench/bench_serve.h"
#include "bench/plot.h"
#include "cli/commands.h"
#include "cli/commit.h"
#include "cli/usage.h"

namespace {

using hearth::between;
using hearth::ServerOptions;

// What every command that loads a model takes.
void add_model_flags(CLI::App& app, ServerOptions& o) {
  app.option_defaults()->group("Model");
  app.add_option("--device", o.backend.device, "auto: a Hopper GPU where there is one, else the CPU")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  app.add_option("--dtype", o.backend.dtype, "of activations; auto: float32 on a CPU, the model's 16 bit on a GPU")
      ->check(CLI::IsMember({"auto", "float32", "float16", "bfloat16"}))
      ->capture_default_str();
  app.add_option("--quantization", o.quantization, "of 16-bit weights")
      ->check(CLI::IsMember({"none", "fp8"}))
      ->capture_default_str();
  app.add_option("--kv-cache-dtype", o.kv_cache_dtype, "auto: that of activations")
      ->check(CLI::IsMember({"auto", "fp8"}))
      ->capture_default_str();
  app.add_option("--max-model-len", o.max_model_len, "tokens of prompt and answer together; default: the model's")
      ->check(between(int64_t{1}, int64_t{1} << 30));
  app.add_option("--experts-per-token", o.experts_per_token, "default: the model's")->check(between(1, 64));
  app.add_option("--threads", o.backend.threads, "of the CPU backend; default: every core")->check(between(1, 1024));
  app.add_option("--tensor-parallel-size", o.backend.ranks, "ranks that share the model; on GPUs at most 8")
      ->check(between(1, 64))
      ->capture_default_str();
  app.add_option("--rank-placement", o.backend.rank_placement,
                 "gpus: a GPU a rank; one-gpu: a share of one GPU's multiprocessors a rank, for tests; auto: neither")
      ->check(CLI::IsMember({"auto", "gpus", "one-gpu"}))
      ->capture_default_str();
  app.add_flag("--expert-parallel", o.expert_parallel, "a rank has whole experts, not some columns of every expert");
}

void add_engine_flags(CLI::App& app, ServerOptions& o) {
  app.option_defaults()->group("Engine");
  app.add_option("--kv-cache-memory-bytes", o.kv_cache_bytes,
                 "of each rank; default: 90% of what is free on a GPU; on a CPU a quarter, at most 4 GiB")
      ->check(between(int64_t{1}, int64_t{1} << 50));
  app.add_option("--max-num-seqs", o.max_num_seqs, "sequences computed at once; default: 256 on a GPU, 64 on a CPU")
      ->check(between(1, 4096));
  app.add_option("--max-num-batched-tokens", o.max_num_batched_tokens,
                 "tokens of a step; default: 1024 on a GPU, 512 on a CPU")
      ->check(between(1, 1 << 20));
  app.add_option("--load-format", o.load_format, "dummy: random weights in the shapes of MODEL's config.json")
      ->check(CLI::IsMember({"auto", "dummy"}))
      ->capture_default_str();
  app.add_option("--prefix-cache", o.prefix_cache, "exact keeps results identical to the bit")
      ->check(CLI::IsMember({"exact", "fast", "off"}))
      ->capture_default_str();
  app.add_option("--chat-template", o.chat_template, "file that replaces the model's own")->check(CLI::ExistingFile);
  app.add_option("--tool-call-parser", o.tool_call_parser,
                 "how the model writes tool calls; auto: by its chat template; none, hermes, qwen3_coder, mistral, ...")
      ->capture_default_str();
  app.add_option("--reasoning-parser", o.reasoning_parser, "auto: by its chat template; none, think, mistral, harmony")
      ->capture_default_str();
  app.add_option("--generation-config", o.generation_config,
                 "temperature, top_p, top_k, min_p and repetition_penalty where a request names none; auto: the "
                 "model's, none or vllm: OpenAI's, else a folder or file")
      ->capture_default_str();
}

// What clients may make the server hold.
void add_http_flags(CLI::App& app, hearth::HttpLimits& limits) {
  app.option_defaults()->group("Limits of requests");
  const auto bytes = between(int64_t{1} << 10, int64_t{1} << 40);
  app.add_option("--max-connections", limits.max_connections, "at most what the limit of open files allows")
      ->check(between(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--max-client-connections", limits.max_client_connections, "of one address")
      ->check(between(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--max-header-bytes", limits.max_header_bytes, "of a request's head; more get a 431")
      ->check(between(int64_t{1} << 10, int64_t{1} << 24))
      ->capture_default_str();
  app.add_option("--max-body-bytes", limits.max_body_bytes, "of a request's body; more get a 413")
      ->check(bytes)
      ->capture_default_str();
  app.add_option("--max-total-request-bytes", limits.max_total_bytes,
                 "of all requests from the socket to the end of parsing; more get a 503")
      ->check(bytes)
      ->capture_default_str();
  app.add_option("--max-client-request-bytes", limits.max_client_bytes, "of those of one address; more get a 429")
      ->check(bytes)
      ->capture_default_str();
}

void add_trust_flags(CLI::App& app, hearth::TlsTrust& o) {
  auto* insecure = app.add_flag("--insecure", o.insecure, "trust any certificate of an https:// server");
  app.add_option("--cacert", o.ca_file, "authorities of https:// servers, PEM; default: the system's")
      ->excludes(insecure);
}

void add_bench_flags(CLI::App& app, hearth::BenchServeOptions& o) {
  app.option_defaults()->group("Server");
  app.add_option("--url", o.url, "of the server under load")->capture_default_str();
  add_trust_flags(app, o.trust);
  app.add_option("--model", o.model, "default: the server's first");
  app.add_option("--api-key", o.api_key)->envname("OPENAI_API_KEY");
  app.option_defaults()->group("Load");
  auto* rates = app.add_option("--rates", o.rates, "open loop: requests a second, one load each")->delimiter(',');
  app.add_option("--concurrencies", o.concurrencies, "closed loop: requests under way, one load each")
      ->delimiter(',')
      ->excludes(rates);
  app.add_option("--input-tokens", o.input_tokens)->check(between(1, 1 << 24))->capture_default_str();
  app.add_option("--output-tokens", o.output_tokens)->check(between(1, 1 << 24))->capture_default_str();
  auto* dataset = app.add_option("--dataset", o.dataset, "ShareGPT's JSON; replaces the fixed lengths");
  dataset->check(CLI::ExistingFile);
  app.add_flag("--random-ids", o.random_ids, "of the dataset the lengths alone: random ids in place of its text")
      ->needs(dataset);
  app.add_option("--vocab-size", o.vocab_size, "random prompts draw ids below it")
      ->check(between(6, 1 << 30))
      ->capture_default_str();
  app.option_defaults()->group("Measurement");
  app.add_option("--seconds", o.seconds, "of each load that count")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--warm-up", o.warm_up, "seconds of each load that do not")->capture_default_str();
  app.add_option("--stop-at", o.stop_at, "ends after the first median total latency past it")->capture_default_str();
  app.add_option("--cutoffs", o.cutoffs, "total latencies whose rates are reported")->delimiter(',');
  app.add_option("--target-ttft", o.budgets.ttft, "seconds, for goodput");
  app.add_option("--target-tpot", o.budgets.tpot, "seconds, for goodput");
  app.add_option("--target-latency", o.budgets.total, "seconds, for goodput");
  app.add_option("--seed", o.seed)->capture_default_str();
  app.option_defaults()->group("Output");
  app.add_option("--output", o.output, "prefix of the files with records and plots");
  app.add_option("--label", o.label, "the run's name in a plot")->capture_default_str();
  app.add_option("--machine", o.machine, "what serves, for the plots; default: what the server says");
  app.add_flag("--best", o.best, "draw the best run at each load, too");
  app.add_option("--compare", o.compare, "files of earlier runs, drawn beside this one")->check(CLI::ExistingFile);
}

CLI::App* add_plan(CLI::App& app, hearth::PlanCommand& o) {
  CLI::App* command = app.add_subcommand("plan", "which GPUs a load needs, and how to spread a model over them");
  std::vector<std::string> gpus;
  for (const auto& [name, gpu] : hearth::StepTables::built_in().gpus()) gpus.push_back(name);
  command->add_option("MODEL", o.model, "mixtral-8x7b and other known shapes, or a model")->required();
  command->add_option("--gpu", o.options.gpu)->check(CLI::IsMember(gpus))->capture_default_str();
  command->add_option("--gpus", o.options.gpus)->check(between(1, 64))->capture_default_str();
  command->add_option("--input-tokens", o.options.input_tokens)->check(between(1, 1 << 20))->capture_default_str();
  command->add_option("--output-tokens", o.options.output_tokens)->check(between(1, 1 << 16))->capture_default_str();
  command->add_option("--target-latency", o.options.target_latency, "seconds to the last token")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--dtype", o.options.precisions, "of weights and KV cache")
      ->delimiter(',')
      ->check(CLI::IsMember({"fp8", "bf16"}))
      ->capture_default_str();
  command->add_option("--step-tokens", o.options.step_tokens, "--max-num-batched-tokens to try")
      ->delimiter(',')
      ->check(between(16, 1 << 16))
      ->capture_default_str();
  command->add_option("--rate", o.rate, "requests/s: how many GPUs they need")->check(CLI::PositiveNumber);
  command->add_option("--price", o.price, "of a GPU and hour: what a million tokens cost")->check(CLI::PositiveNumber);
  command->add_option("--output", o.output, "prefix of a plot, in SVG and PNG");
  command->footer(
      "Example:\n  hearth plan mixtral-8x7b --gpu h100 --gpus 8 --target-latency 1.6 --rate 200 --price 2.5");
  return command;
}

CLI::App* add_quantize(CLI::App& app, hearth::QuantizeCommand& o) {
  CLI::App* command = app.add_subcommand("quantize", "write a 16-bit model as an FP8 checkpoint");
  command->add_option("MODEL", o.model, "a folder of safetensors, or org/name in the Hugging Face cache")->required();
  command->add_option("OUT", o.out, "the folder to make")->required();
  command
      ->add_option("--scheme", o.scheme,
                   "channel: compressed-tensors, what --quantization fp8 does at load; static: AutoFP8, with fixed "
                   "scales of activations; block: DeepSeek's 128x128")
      ->check(CLI::IsMember({"channel", "static", "block"}))
      ->capture_default_str();
  command->add_option("--calibrate", o.calibration, "text that static scales are measured on")
      ->check(CLI::ExistingFile);
  command->add_option("--calibration-tokens", o.calibration_tokens, "of that text, from its beginning")
      ->check(between(int64_t{1}, int64_t{1} << 30))
      ->capture_default_str();
  command->add_option("--threads", o.threads, "of the calibration; default: every core")->check(between(1, 1024));
  return command;
}

constexpr const char* kModelHelp = "a folder, a .gguf file, or org/name in the Hugging Face cache";

int exit_code(const hearth::Status& status) {
  if (!status.ok()) hearth::log_error(status.message());
  return status.ok() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // a file that may grow no further is an error of its write
  CLI::App app{"Hearth: an OpenAI-compatible server for mixture-of-experts language models", "hearth"};
  app.require_subcommand(1);
  app.formatter(std::make_shared<hearth::HelpFormatter>());  // subcommands take it over
  app.set_version_flag("--version", hearth::cat("hearth ", hearth::version(), " (", hearth::commit(), ")"));
  ServerOptions server;

  CLI::App* serve = app.add_subcommand("serve", "serve a model over HTTP");
  double shutdown_timeout = 30;
  serve->add_option("MODEL", server.model, kModelHelp)->required();
  serve->option_defaults()->group("Server");
  serve->add_option("--host", server.host, "address to listen on; 0.0.0.0 is all of IPv4")->capture_default_str();
  serve->add_option("--port", server.port, "0 takes a free one")->check(between(0, 65535))->capture_default_str();
  hearth::ApiKeySources api_keys;
  std::string log_level = "info", log_format = "text";
  serve->add_option("--api-key", api_keys.given, "clients must send one of them; HEARTH_API_KEY adds some");
  serve->add_option("--api-key-file", api_keys.file,
                    "of keys, one a line; # in front of a line is a comment; read again at SIGHUP");
  serve->add_option("--allowed-origins", server.allowed_origins,
                    "of web pages that may use the API from a browser, like https://example.org; * is all of them");
  auto* certificate = serve->add_option("--ssl-certfile", server.ssl_certificate,
                                        "PEM file of the certificate and its chain: HTTPS; read again at SIGHUP");
  certificate->check(CLI::ExistingFile);
  serve->add_option("--ssl-keyfile", server.ssl_key, "of its key; default: it is in the certificate's file")
      ->check(CLI::ExistingFile)
      ->needs(certificate);
  serve->add_option("--log-level", log_level, "info has a line for each request")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}))
      ->capture_default_str();
  serve->add_option("--log-format", log_format, "json: an object a line, with a request's figures as its fields")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  serve->add_option("--served-model-name", server.served_model_names, "the first is what answers say");
  serve->add_option("--max-logprobs", server.max_logprobs, "that a request may ask for at each token")
      ->check(between(0, 1000))
      ->capture_default_str();
  serve->add_option("--shutdown-timeout", shutdown_timeout, "seconds that requests in work have after SIGTERM")
      ->check(between(0.0, 86400.0))
      ->capture_default_str();
  serve
      ->add_option("--replicas", server.backend.replicas,
                   "copies of the model behind this server, each on GPUs of its own; a CPU shares its threads")
      ->check(between(1, 64))
      ->capture_default_str();
  serve->add_option("--kv-events-endpoint", server.kv_events.endpoint,
                    "of ZeroMQ, like tcp://*:5557: tells routers which prompts are cached, as vLLM does");
  serve->add_option("--kv-events-replay-endpoint", server.kv_events.replay_endpoint,
                    "where they ask for messages that they missed");
  serve->add_option("--kv-events-topic", server.kv_events.topic, "of the messages");
  serve->add_option("--trace", server.trace, "file for a timeline of steps, for Perfetto");
  add_model_flags(*serve, server);
  add_engine_flags(*serve, server);
  add_http_flags(*serve, server.http);
  serve->option_defaults()->group("Queue and latency");
  serve
      ->add_option("--max-num-queued-reqs", server.max_num_queued_requests,
                   "more get a 429; default: as many as fit in memory")
      ->check(between(1, 1 << 30));
  serve->add_option("--queue-memory-bytes", server.max_queue_bytes, "of requests that wait; more get a 429")
      ->check(between(int64_t{1}, int64_t{1} << 50))
      ->capture_default_str();
  serve->add_option("--target-ttft", server.targets.ttft, "seconds to the first token; what cannot keep it gets a 429")
      ->check(CLI::PositiveNumber);
  serve->add_option("--target-tpot", server.targets.tpot, "seconds a token after the first; sizes the steps")
      ->check(CLI::PositiveNumber);
  serve->add_option("--target-latency", server.targets.latency, "seconds to the last token; likewise, both")
      ->check(CLI::PositiveNumber);
  serve->add_flag("--request-targets", server.request_targets,
                  "keep targets that requests bring, x-llm-d-slo-ttft-ms and x-llm-d-slo-tpot-ms; any target here "
                  "implies it");
  serve->footer(
      "Examples:\n  hearth serve ./Mixtral-8x7B-Instruct-v0.1 --quantization fp8 --port 8000\n"
      "  hearth serve model.gguf --api-key SECRET --max-model-len 8192");

  CLI::App* chat = app.add_subcommand("chat", "talk to a model in the terminal, or pipe a question in");
  hearth::ChatOptions chat_options;
  chat->add_option("MODEL", server.model, kModelHelp);
  chat->option_defaults()->group("Conversation");
  chat->add_option("--url", chat_options.url, "of a running server, instead of a MODEL");
  add_trust_flags(*chat, chat_options.trust);
  chat->add_option("--model", chat_options.model, "name of the model on that server");
  chat->add_option("--api-key", chat_options.api_key, "of that server")->envname("OPENAI_API_KEY");
  chat->add_option("--system-prompt", chat_options.system, "what the model is told first");
  chat->add_option("--temperature", chat_options.temperature,
                   "default: the model's, else 0.5; of a --url, the server's")
      ->check(between(0.0, 100.0));
  chat->add_option("--max-tokens", chat_options.max_tokens, "of an answer")->check(between(1, 1 << 30));
  add_model_flags(*chat, server);
  add_engine_flags(*chat, server);
  chat->footer(
      "Examples:\n  hearth chat model.gguf\n"
      "  echo 'Why is the sky blue?' | hearth chat --url http://127.0.0.1:8000");

  CLI::App* eval = app.add_subcommand("eval", "measure a model's quality");
  eval->require_subcommand(1);
  CLI::App* perplexity = eval->add_subcommand("perplexity", "of a text file");
  hearth::PerplexityOptions perplexity_options;
  perplexity->add_option("FILE", perplexity_options.file)->required()->check(CLI::ExistingFile);
  perplexity->add_option("--model", server.model, kModelHelp)->required();
  perplexity->add_option("--window", perplexity_options.window, "tokens")
      ->check(between(2, 1 << 30))
      ->capture_default_str();
  perplexity->add_option("--json", perplexity_options.json, "file for the figures, window by window");
  add_model_flags(*perplexity, server);

  hearth::EvalOptions eval_options;
  const auto add_answers = [&](const char* name, const char* what, const char* path, const char* path_help) {
    CLI::App* command = eval->add_subcommand(name, what);
    command->add_option(path, eval_options.path, path_help)->required();
    command->add_option("--model", server.model, kModelHelp)->required();
    command->add_option("--limit", eval_options.limit, "questions; of each subject, where there are subjects")
        ->check(between(int64_t{1}, int64_t{1} << 30));
    command->add_option("--json", eval_options.json, "file for every question's figures, for eval compare");
    add_model_flags(*command, server);
    add_engine_flags(*command, server);
    return command;
  };
  CLI::App* choices = add_answers("choices", "accuracy on multiple-choice questions, by log-likelihood", "FILE",
                                  "JSON lines of question, choices, answer");
  CLI::App* mmlu =
      add_answers("mmlu", "MMLU: the right letter by log-likelihood", "FOLDER", "with test.jsonl and dev.jsonl");
  mmlu->add_option("--shots", eval_options.shots, "examples before each question; default: 5")->check(between(0, 64));
  CLI::App* gsm8k = add_answers("gsm8k", "GSM8K: the last number of a generated answer", "FOLDER",
                                "with test.jsonl and fewshot_pool.jsonl");
  auto* gsm8k_shots = gsm8k->add_option("--shots", eval_options.shots, "examples before each problem; default: 8");
  gsm8k_shots->check(between(0, 64));
  gsm8k->add_option("--max-tokens", eval_options.max_tokens, "of an answer")
      ->check(between(1, 1 << 20))
      ->capture_default_str();
  CLI::App* compare = eval->add_subcommand("compare", "two files of --json, question by question");
  std::string compare_first, compare_second;
  compare->add_option("FIRST", compare_first)->required()->check(CLI::ExistingFile);
  compare->add_option("SECOND", compare_second)->required()->check(CLI::ExistingFile);

  hearth::QuantizeCommand quantize_options;
  CLI::App* quantize = add_quantize(app, quantize_options);

  hearth::PlanCommand plan_options;
  CLI::App* plan = add_plan(app, plan_options);

  CLI::App* bench = app.add_subcommand("bench", "measure speed");
  bench->require_subcommand(1);
  CLI::App* bench_serve = bench->add_subcommand("serve", "latency and throughput of a server under rising load");
  hearth::BenchServeOptions bench_options;
  add_bench_flags(*bench_serve, bench_options);
  bench_serve->footer("Example:\n  hearth bench serve --url http://127.0.0.1:8000 --rates 4,8,16 --output RUN");

  CLI::App* bench_plot = bench->add_subcommand("plot", "latency against load, of runs that bench serve saved");
  std::vector<std::string> plot_files, plot_labels;
  std::string plot_output;
  bench_plot->add_option("FILES", plot_files)->required()->check(CLI::ExistingFile);
  bench_plot->add_option("--labels", plot_labels, "runs to draw, and their order; default: all");
  bool plot_best = false;
  bench_plot->add_flag("--best", plot_best, "a line of the best run at each load, too");
  bench_plot->add_option("--output", plot_output, "prefix of the files, two in SVG and two in PNG")->required();

  CLI::App* bench_step = bench->add_subcommand("step", "one step of a model, op by op, against its floor");
  hearth::BenchStepOptions step_options;
  bench_step->add_option("MODEL", server.model, kModelHelp)->required();
  bench_step->add_option("--steps", step_options.steps, "PROMPT+DECODES: one prompt's tokens and single ones")
      ->delimiter(',')
      ->capture_default_str();
  bench_step->add_option("--context", step_options.context, "tokens before each decode")
      ->check(between(int64_t{1}, int64_t{1} << 30))
      ->capture_default_str();
  bench_step->add_flag("--masked", step_options.masked,
                       "every row draws from a mask, as with a grammar on every request");
  bench_step->add_option("--repeat", step_options.repeat)->check(between(1, 10000))->capture_default_str();
  bench_step->add_option("--read-tbs", step_options.read_tbs, "the memory's rate, TB/s")->capture_default_str();
  bench_step->add_option("--fp8-tflops", step_options.fp8_tflops)->capture_default_str();
  bench_step->add_option("--act-tflops", step_options.act_tflops, "in 16 bit")->capture_default_str();
  bench_step->add_option("--json", step_options.json, "file for the figures");
  add_model_flags(*bench_step, server);
  add_engine_flags(*bench_step, server);

  CLI::App* bench_frontend =
      bench->add_subcommand("frontend", "HTTP, API and engine around a model, without the model");
  hearth::BenchFrontendOptions frontend_options;
  bench_frontend->add_option("MODEL", server.model, "whose tokenizer is used")->required();
  bench_frontend->add_option("--streams", frontend_options.streams, "answers under way at once")
      ->check(between(1, 4096))
      ->capture_default_str();
  bench_frontend->add_option("--tokens", frontend_options.tokens, "of an answer")
      ->check(between(1, 1 << 20))
      ->capture_default_str();
  bench_frontend->add_option("--step-ms", frontend_options.step_ms, "between steps; each gives every stream a token")
      ->check(between(0.01, 10000.0))
      ->capture_default_str();
  bench_frontend->add_option("--seconds", frontend_options.seconds, "that count")
      ->check(between(0.1, 3600.0))
      ->capture_default_str();
  bench_frontend->add_option("--warm-up", frontend_options.warm_up, "seconds that do not")
      ->check(between(0.0, 3600.0))
      ->capture_default_str();
  bench_frontend->add_option("--json", frontend_options.json, "file for the figures");

  CLI::App* bench_kernels = bench->add_subcommand("kernels", "the GPU's kernels one by one, against their floors");
  hearth::BenchKernelsCommand kernels_command;
  bench_kernels->add_option("--only", kernels_command.only, "rows with this in their names, or with all of these");
  bench_kernels->add_option("--tile", kernels_command.tiles,
                            "of grouped_gemm: WARPGROUPS,CLUSTER,PIECE,STAGES; 0 stages are as many as fit");
  bench_kernels->add_flag("--peers", kernels_command.peers,
                          "PyTorch's and vLLM's beside them, where python3 has those");
  bench_kernels
      ->add_option("--sustain", kernels_command.sustain,
                   "seconds of each product and attention before it is timed: the clock falls to what the power allows")
      ->check(between(0.0, 60.0));
  bench_kernels->add_option("--json", kernels_command.json, "file for the figures");

  CLI::App* version = app.add_subcommand("version", "print version and commit");

  // Last: a command takes over what is there when it is added.
  app.footer(
      "Example:\n  hearth serve ./Mixtral-8x7B-Instruct-v0.1 --quantization fp8\n"
      "  curl http://127.0.0.1:8000/v1/models\n\n`hearth COMMAND --help` lists a command's options.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return hearth::explain(app, error);
  }

  try {
    if (*serve) {
      hearth::set_log_level(log_level);
      if (log_format == "json") hearth::set_log_format(hearth::LogFormat::kJson);
      const std::chrono::duration<double> timeout(shutdown_timeout);
      return hearth::serve_command(server, api_keys, std::chrono::duration_cast<hearth::Duration>(timeout));
    }
    if (*chat) {
      if (server.model.empty() == chat_options.url.empty()) {
        hearth::log_error("chat needs a MODEL or a --url, not both");
        return 1;
      }
      return hearth::chat_command(server, chat_options);
    }
    if (*perplexity) return hearth::eval_perplexity_command(server, perplexity_options);
    if (*choices) return hearth::eval_choices_command(server, eval_options);
    if (*mmlu) return hearth::eval_mmlu_command(server, eval_options);
    if (*gsm8k) {
      if (gsm8k_shots->empty()) eval_options.shots = 8;
      return hearth::eval_gsm8k_command(server, eval_options);
    }
    if (*compare) return hearth::eval_compare_command(compare_first, compare_second);
    if (*quantize) return hearth::quantize_command(quantize_options);
    if (*plan) return hearth::plan_command(plan_options);
    if (*bench_serve) {
      if (bench_options.rates.empty() && bench_options.concurrencies.empty())
        bench_options.concurrencies = {1, 2, 4, 8};
      return exit_code(hearth::bench_serve(bench_options));
    }
    if (*bench_plot) return exit_code(hearth::plot_runs(plot_files, plot_labels, plot_output, plot_best));
    if (*bench_frontend) return hearth::bench_frontend_command(server, frontend_options);
    if (*bench_step) return hearth::bench_step_command(server, step_options);
    if (*bench_kernels) return hearth::bench_kernels_command(kernels_command);
    if (*version) std::puts(hearth::cat(hearth::version(), " (", hearth::commit(), ")").c_str());
  } catch (const std::bad_alloc&) {
    hearth::log_error("out of memory");
    return 1;
  }
  return 0;
}
