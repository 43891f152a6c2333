// The order of things: checkpoint, tokenizer, what is wrong with the options, weights, KV cache, engine.
#include "cli/load_engine.h"

#include <algorithm>

#include "api/sampling_defaults.h"
#include "base/log.h"
#include "base/printable.h"
#include "engine/replicas.h"
#include "engine/step_time_probe.h"
#include "engine/step_trace.h"

namespace hearth {

Result<LoadedEngine> load_engine(const ServerOptions& given, const Clock& clock, LoadProgress progress) {
  LoadedEngine out;
  EngineOptions engine;
  std::vector<std::shared_ptr<KvEventSink>> kv_events(static_cast<size_t>(given.backend.replicas));
  if (!given.trace.empty()) {
    HEARTH_ASSIGN(engine.trace, StepTrace::open(given.trace));
  }
  if (!given.kv_events.endpoint.empty()) {
    if (given.prefix_cache == "off") return invalid("--kv-events-endpoint needs the prefix cache");
    HEARTH_ASSIGN(auto publisher, KvEventPublisher::open(given.kv_events, kBlockSize));
    for (size_t r = 0; r < kv_events.size(); ++r) {
      kv_events[r] = KvEventPublisher::sink(publisher, static_cast<int64_t>(r));
    }
  } else if (!given.kv_events.replay_endpoint.empty() || !given.kv_events.topic.empty()) {
    return invalid("--kv-events-replay-endpoint and --kv-events-topic need --kv-events-endpoint");
  }
  const LoadFormat format = given.load_format == "dummy" ? LoadFormat::kDummy : LoadFormat::kAuto;
  HEARTH_ASSIGN(OpenedModel opened, open_model(given.model, format));
  HEARTH_ASSIGN(out.text, load_text(opened, format, given.chat_template));
  HEARTH_ASSIGN(out.format, choose_format(given.tool_call_parser, given.reasoning_parser, out.text.template_source));
  HEARTH_ASSIGN(out.generation, read_generation_config(opened, given.generation_config));
  auto sampling = sampling_defaults(out.generation.fields, given.sampling);
  if (!sampling.ok()) return sampling.status().prefixed(out.generation.source);
  out.sampling = std::move(sampling).value();

  HEARTH_ASSIGN(LoadedRunners loaded, load_runners(std::move(opened), given, std::move(progress)));
  out.options = std::move(loaded.options);
  out.model = std::move(loaded.model);
  out.backend_name = std::move(loaded.backend_name);
  out.num_blocks = loaded.num_blocks;
  const ServerOptions& options = out.options;
  engine.max_num_seqs = options.max_num_seqs;
  engine.max_num_batched_tokens = options.max_num_batched_tokens;
  engine.max_num_queued_requests = options.max_num_queued_requests;
  engine.max_queue_bytes = options.max_queue_bytes;
  engine.targets = options.targets;
  engine.request_targets = options.request_targets;
  engine.max_model_len = out.model->max_model_len();
  engine.max_logprobs = options.max_logprobs;
  engine.prefix_cache = options.prefix_cache != "off";
  engine.prefix_mode = options.prefix_cache == "fast" ? PrefixMode::kFast : PrefixMode::kExact;
  engine.end_tokens = loaded.config.eos;
  // In harmony the token behind a turn ends each of an answer's messages, not the answer.
  const auto end_of_turn = out.format.harmony ? std::nullopt : out.text.end_of_turn;
  for (const auto& id : {out.text.tokenizer->eos(), end_of_turn}) {
    if (!id || std::ranges::count(engine.end_tokens, *id) > 0) continue;
    engine.end_tokens.push_back(*id);
    log_info("answers end at ", printable(out.text.tokenizer->token_text(*id)),
             id == end_of_turn ? " too, as the chat template ends a turn" : " too, the tokenizer's end token");
  }
  if (engine.end_tokens.empty()) log_warning("the model's files name no end token: answers end at max_tokens");
  out.end_tokens = engine.end_tokens;
  engine.kv_events = kv_events[0];
  if (loaded.runners.size() == 1) {
    out.engine = make_engine(std::move(loaded.runners[0]), engine, clock);
    return out;
  }
  // What one takes is a first guess for all; each corrects it by its own steps.
  engine.step_times = measure_step_times(*loaded.runners[0], clock, engine.max_num_batched_tokens);
  engine.queue = std::make_shared<RequestQueue>();
  std::vector<std::unique_ptr<Engine>> replicas;
  for (size_t r = 0; r < loaded.runners.size(); ++r) {
    engine.kv_events = kv_events[r];
    replicas.push_back(make_engine(std::move(loaded.runners[r]), engine, clock));
  }
  out.engine = std::make_unique<Replicas>(std::move(replicas), clock);
  return out;
}

}  // namespace hearth
