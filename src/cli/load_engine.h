// From the options to a running engine: checkpoint, text, weights, KV cache, thread. Shared by the commands that put
// requests to an engine.
#pragma once

#include <memory>
#include <string>

#include "base/json.h"
#include "cli/generation_config.h"
#include "cli/load_runner.h"
#include "cli/load_text.h"
#include "engine/engine.h"
#include "formats/answer_format.h"

namespace hearth {

struct LoadedEngine {
  LoadedText text;
  GenerationConfig generation;
  SamplingParams sampling;  // what a request that names none gets: the checkpoint's, else the options'
  std::shared_ptr<Model> model;
  ServerOptions options;  // as given, the defaults that depend on the backend filled in
  std::string backend_name;
  int64_t num_blocks = 0;  // of the KV cache
  std::vector<int32_t> end_tokens;
  AnswerFormat format;  // how the model writes tool calls and reasoning
  std::unique_ptr<Engine> engine;
};

// `clock` outlives the engine.
Result<LoadedEngine> load_engine(const ServerOptions& options, const Clock& clock, LoadProgress progress);

}  // namespace hearth
