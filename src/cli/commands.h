// The commands; each returns the process's exit code and prints its own errors, one line each.
#pragma once

#include "cli/local_server.h"

namespace hearth {

// Until SIGTERM or SIGINT; what is in work may then end within the timeout.
int serve_command(const ServerOptions& options, Duration shutdown_timeout);

struct ChatOptions {
  std::string url;    // of a running server; empty: the model is loaded here
  std::string model;  // of the server; empty: its first
  std::string api_key;
  std::string system;  // message put first
  float temperature = 1.0f;
  int64_t max_tokens = 0;  // 0: as many as fit
};
int chat_command(ServerOptions server, ChatOptions options);

// Of the options, those of the model count.
int eval_perplexity_command(const ServerOptions& options, const std::string& file, int64_t window);

}  // namespace hearth
