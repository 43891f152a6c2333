// From the options to runners: backend, weights, KV cache. All that `hearth serve` and `hearth bench step` share.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cli/choose_backend.h"
#include "engine/engine.h"
#include "engine/latency_policy.h"
#include "engine/request.h"
#include "engine/runner.h"
#include "models/registry.h"
#include "server/http_server.h"
#include "server/kv_event_publisher.h"

namespace hearth {

struct ServerOptions {
  std::string model;
  std::string host = "127.0.0.1";
  int port = 8000;
  BackendChoice backend;
  std::string load_format = "auto";   // auto, dummy
  std::string quantization = "none";  // none, fp8
  std::string kv_cache_dtype = "auto";
  int64_t kv_cache_bytes = 0;          // 0: a share of the free memory
  int64_t max_model_len = 0;           // 0: the checkpoint's
  int64_t max_num_seqs = 0;            // 0: 256 on a GPU, 64 on a CPU
  int64_t max_num_batched_tokens = 0;  // 0: 1,024 on a GPU, 512 on a CPU
  int64_t max_num_queued_requests = EngineOptions().max_num_queued_requests;
  int64_t max_queue_bytes = EngineOptions().max_queue_bytes;
  LatencyTargets targets;
  bool request_targets = false;  // requests may bring their own
  int64_t max_logprobs = 20;
  std::string trace;              // file; empty: none
  int64_t experts_per_token = 0;  // 0: the checkpoint's
  bool expert_parallel = false;
  KvEventOptions kv_events;
  std::string prefix_cache = "exact";  // exact, fast, off
  std::string chat_template;           // a file
  std::string tool_call_parser = "auto", reasoning_parser = "auto";
  std::string generation_config = "auto";  // vllm and none: nothing; else a folder or file
  SamplingParams sampling;                 // what neither a request nor the model names
  std::vector<std::string> served_model_names;
  std::vector<std::string> api_keys;
  std::vector<std::string> allowed_origins;  // of web pages
  std::string ssl_certificate, ssl_key;      // files; empty: plain HTTP
  HttpLimits http;

  ModelOptions model_options() const;
};

struct LoadedRunners {
  std::vector<std::unique_ptr<Runner>> runners;  // of each replica
  std::shared_ptr<Model> model;
  ModelConfig config;
  ServerOptions options;  // as given, the defaults that depend on the backend filled in
  std::string backend_name;
  int64_t num_blocks = 0;  // of a replica's KV cache
};

// All replicas at the same time, each with weights of its own.
Result<LoadedRunners> load_runners(OpenedModel opened, ServerOptions options, LoadProgress progress);

}  // namespace hearth
