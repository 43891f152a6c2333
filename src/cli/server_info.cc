// Facts that do not change while the server runs. Paths are not told to clients: the model's name stands for them.
#include "cli/server_info.h"

#include "api/json_writer.h"
#include "base/version.h"
#include "cli/commit.h"
#include "ops/batch.h"

namespace hearth {

std::string server_info(const LoadedEngine& loaded, const std::string& name) {
  const ServerOptions& options = loaded.options;
  std::string out;
  JsonWriter w(out);
  w.begin_object().field("server", "hearth").field("version", version()).field("commit", commit());
  w.field("model_path", name).field("served_model_name", name).field("architecture", loaded.model->architecture());
  w.field("device", loaded.backend_name).field("dtype", options.backend.dtype);
  w.field("quantization", options.quantization).field("kv_cache_dtype", options.kv_cache_dtype);
  w.field("tp_size", options.backend.ranks);
  w.field("ep_size", options.expert_parallel ? options.backend.ranks : 1).field("dp_size", options.backend.replicas);
  w.field("context_length", loaded.model->max_model_len()).field("page_size", kBlockSize);
  w.field("max_total_num_tokens", loaded.num_blocks * kBlockSize * options.backend.replicas);
  w.field("max_running_requests", options.max_num_seqs * options.backend.replicas);
  w.field("max_num_batched_tokens", options.max_num_batched_tokens);
  w.field("prefix_cache", options.prefix_cache).field("kv_events", !options.kv_events.endpoint.empty());
  w.end_object();
  return out;
}

std::string model_info(const LoadedEngine& loaded, const std::string& name) {
  std::string out;
  JsonWriter w(out);
  w.begin_object().field("model_path", name).field("tokenizer_path", name).field("is_generation", true);
  w.field("model_type", loaded.model->architecture()).field("context_length", loaded.model->max_model_len());
  w.field("vocab_size", loaded.model->vocab_size());
  w.end_object();
  return out;
}

}  // namespace hearth
