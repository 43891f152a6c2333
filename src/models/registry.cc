// Where models lie, and how they are opened and loaded.
#include "models/registry.h"

#include <algorithm>
#include <cstdlib>

#include "base/log.h"
#include "models/decoder.h"
#include "models/dummy_checkpoint.h"
#include "models/family.h"
#include "weights/gguf.h"
#include "weights/mapped_file.h"
#include "weights/mxfp4.h"

namespace hearth {
namespace {

namespace fs = std::filesystem;

fs::path hugging_face_cache() {
  if (const char* cache = std::getenv("HF_HUB_CACHE"); cache != nullptr && *cache) return cache;
  if (const char* home = std::getenv("HF_HOME"); home != nullptr && *home) return fs::path(home) / "hub";
  const char* home = std::getenv("HOME");
  return fs::path(home == nullptr ? "." : home) / ".cache/huggingface/hub";
}

// org/name: two words of letters, digits, '-', '_' and '.', neither of dots alone.
bool is_repository(std::string_view name) {
  const size_t slash = name.find('/');
  if (slash == name.npos || slash == 0 || slash + 1 == name.size()) return false;
  const auto is_word = [](std::string_view word) {
    return word.find_first_not_of('.') != word.npos && std::all_of(word.begin(), word.end(), [](char c) {
             return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                    c == '_' || c == '.';
           });
  };
  return is_word(name.substr(0, slash)) && is_word(name.substr(slash + 1));
}

Result<fs::path> find_snapshot(const fs::path& repository) {
  std::error_code error;
  const fs::path snapshots = repository / "snapshots";
  if (const fs::path ref = repository / "refs/main"; is_there(ref)) {
    HEARTH_ASSIGN(std::string commit, read_text_file(ref, 256));
    while (!commit.empty() && (commit.back() == '\n' || commit.back() == '\r')) commit.pop_back();
    const bool plain = !commit.empty() && commit.find_first_not_of("0123456789abcdef") == commit.npos;
    if (!plain || !fs::is_directory(snapshots / commit, error)) {
      return invalid(ref.string(), ": expected the commit of a snapshot in ", snapshots.string());
    }
    return snapshots / commit;
  }
  std::vector<fs::path> found;
  for (auto at = fs::directory_iterator(snapshots, error); !error && at != fs::directory_iterator();
       at.increment(error)) {
    if (std::error_code ignored; at->is_directory(ignored)) found.push_back(at->path());
  }
  if (found.size() != 1) return invalid(snapshots.string(), ": expected one snapshot, found ", found.size());
  return found[0];
}

Status choose_experts_per_token(int64_t wanted, ModelConfig& config) {
  bool any = false;
  for (LayerSpec& layer : config.layers) {
    FeedForwardSpec& f = layer.feed_forward;
    if (f.experts == 0) continue;
    if (wanted < 1 || wanted > f.experts) {
      return invalid("experts-per-token: expected 1 to ", f.experts, ", found ", wanted);
    }
    f.experts_per_token = wanted;
    any = true;
  }
  return any ? Status() : invalid("experts-per-token: expected none for a model without experts, found ", wanted);
}

// Whether the ranks can share it.
Status check_shard(const ModelConfig& config, int64_t ranks, bool expert_parallel) {
  const auto has_experts = [](const LayerSpec& layer) { return layer.feed_forward.experts > 0; };
  if (expert_parallel && std::ranges::none_of(config.layers, has_experts)) {
    return invalid("expert-parallel: expected a model with experts, found none");
  }
  if (ranks == 1) return {};
  const auto refuse = [&](const char* what, int64_t count) {
    return invalid("tensor-parallel-size: expected a divisor of the model's ", count, " ", what, ", found ", ranks);
  };
  for (const LayerSpec& layer : config.layers) {
    const AttentionSpec& attention = layer.attention;
    if (attention.qk_norm == QkNorm::kAllHeads) {
      return unimplemented("tensor-parallel-size: expected 1 for a model that normalizes all heads together, found ",
                           ranks);
    }
    if (attention.heads % ranks != 0) return refuse("attention heads", attention.heads);
    if (attention.kv_heads % ranks != 0 && ranks % attention.kv_heads != 0) {
      return refuse("KV heads, or a multiple of their number", attention.kv_heads);
    }
    const FeedForwardSpec& feed_forward = layer.feed_forward;
    const bool whole_experts = expert_parallel && feed_forward.experts > 0;
    if (whole_experts && feed_forward.experts < ranks) {
      return invalid("tensor-parallel-size: expected at most the model's ", feed_forward.experts,
                     " experts with --expert-parallel, found ", ranks);
    }
    for (const int64_t columns : {whole_experts ? 0 : feed_forward.intermediate, feed_forward.shared_intermediate}) {
      if (columns % ranks != 0) return refuse("intermediate columns", columns);
    }
  }
  if (config.vocab < ranks)
    return invalid("tensor-parallel-size: expected at most the vocabulary's ", config.vocab, " tokens, found ", ranks);
  return {};
}

// Of a rank's part.
ModelShape shape_of(const ModelConfig& config, const LayerSpec& layer, const ModelOptions& options,
                    const Backend& backend) {
  const Shard shard = backend.shard();
  const AttentionSpec& attention = layer.attention;
  const FeedForwardSpec& feed_forward = layer.feed_forward;
  const bool whole_experts = options.expert_parallel && feed_forward.experts > 0;
  return {.hidden = config.hidden,
          .intermediate = whole_experts ? feed_forward.intermediate : shard.part(feed_forward.intermediate).size(),
          .vocab = shard.part(config.vocab).size(),
          .heads = shard.part(attention.heads).size(),
          .kv_heads = shard.part(attention.kv_heads).size(),
          .head_dim = attention.head_dim,
          .rotary = attention.rotary,
          .window = attention.window,
          .norms_heads = attention.qk_norm != QkNorm::kNone,
          .norms_all_heads = attention.qk_norm == QkNorm::kAllHeads,
          .experts = feed_forward.experts,
          .experts_per_token = feed_forward.experts_per_token,
          .shared_intermediate = shard.part(feed_forward.shared_intermediate).size(),
          .kv = options.kv_dtype(backend.act())};
}

// The folder itself, or where there are no safetensors in it, its one .gguf file.
Result<fs::path> weights_in(const fs::path& folder) {
  if (is_there(folder / "model.safetensors") || is_there(folder / "model.safetensors.index.json")) return folder;
  std::vector<std::string> files;
  std::error_code error;
  for (auto at = fs::directory_iterator(folder, error); !error && at != fs::directory_iterator(); at.increment(error)) {
    const std::string name = at->path().filename().string();
    const bool further_part = gguf_part_number(name) > 1, projector = name.starts_with("mmproj");
    if (name.ends_with(".gguf") && !further_part && !projector) files.push_back(name);
  }
  if (files.empty()) return folder;
  if (files.size() == 1) return folder / files[0];
  return invalid(printable(folder.string()), ": expected one .gguf file, found ", files.size(),
                 "; name the file of them that is meant");
}

}  // namespace

Result<fs::path> find_model(std::string_view name) {
  std::error_code error;
  const fs::path path(name);
  if (fs::is_directory(path, error)) return weights_in(path);
  if (name.ends_with(".gguf") && fs::exists(path, error)) return path;
  if (!is_repository(name)) {
    const bool there = fs::exists(path, error);
    return Status(Code::kNotFound, cat(printable(name), there ? "" : ": no such file or folder",
                                       ": expected a folder, a .gguf file or org/name"));
  }
  std::string folder = cat("models--", name);
  folder.replace(folder.find('/'), 1, "--");
  const fs::path repository = hugging_face_cache() / folder;
  if (!fs::is_directory(repository, error)) {
    return Status(Code::kNotFound,
                  cat(name, ": no such folder, and not in the Hugging Face cache ", hugging_face_cache().string()));
  }
  HEARTH_ASSIGN(const fs::path snapshot, find_snapshot(repository));
  return weights_in(snapshot);
}

Result<OpenedModel> open_model(std::string_view name, LoadFormat format) {
  OpenedModel out;
  HEARTH_ASSIGN(out.path, find_model(name));
  std::error_code error;
  if (fs::is_directory(out.path, error)) {
    // transformers would put it over another model.
    if (is_there(out.path / "adapter_config.json")) {
      return unimplemented(printable(out.path.string()), ": adapter_config.json: adapters are not supported");
    }
    HEARTH_ASSIGN(out.config, read_config(out.path));
    if (format == LoadFormat::kDummy) {
      out.checkpoint = make_dummy_checkpoint(out.config);
    } else {
      HEARTH_ASSIGN(auto file, open_safetensors_folder(out.path));
      HEARTH_ASSIGN(file, pair_mxfp4(std::move(file)));
      HEARTH_ASSIGN(file, unpack_ints(std::move(file), out.config.quantization.packed));
      HEARTH_ASSIGN(out.checkpoint, name_tensors(std::move(file), out.config));
    }
  } else if (format == LoadFormat::kDummy) {
    return invalid(out.path.string(), ": dummy weights need a folder with config.json");
  } else {
    HEARTH_ASSIGN(auto file, open_gguf_checkpoint(out.path));
    HEARTH_ASSIGN(out.config, read_gguf_config(*file));
    HEARTH_ASSIGN(out.checkpoint, name_tensors(std::move(file), out.config));
  }
  return out;
}

Result<std::vector<std::string>> linear_matrices(const OpenedModel& opened, Backend& backend) {
  WeightLoader loader(*opened.checkpoint, backend, LinearFormat::kAsStored);
  HEARTH_TRY(Decoder(opened.config, {}, backend).load(loader));
  HEARTH_TRY(loader.check_rest());
  std::vector<std::string> out;
  for (const LoadedMatrices& part : loader.matrices()) out.insert(out.end(), part.names.begin(), part.names.end());
  return out;
}

Result<LoadedModel> load_model(OpenedModel opened, Backend& backend, ModelOptions options, LoadProgress progress) {
  ModelConfig& config = opened.config;
  if (options.max_model_len == 0) options.max_model_len = config.max_positions;
  if (options.max_model_len < 1 || options.max_model_len > config.max_positions) {
    return invalid("max-model-len: expected at most the model's ", config.max_positions, ", found ",
                   options.max_model_len);
  }
  if (options.experts_per_token != 0) {
    HEARTH_TRY(choose_experts_per_token(options.experts_per_token, config));
  }
  HEARTH_CHECK(options.max_tokens > 0 && options.max_logits > 0);
  HEARTH_TRY(check_shard(config, backend.shard().size, options.expert_parallel));
  for (const LayerSpec& layer : config.layers) {
    HEARTH_TRY(backend.check(shape_of(config, layer, options, backend), options.limits()));
  }
  WeightLoader loader(*opened.checkpoint, backend, options.format);
  auto model = std::make_unique<Decoder>(config, options, backend);
  HEARTH_TRY(model->load(loader));
  HEARTH_TRY(loader.finish_check(std::move(progress)));
  HEARTH_TRY(model->load(loader));
  backend.synchronize();
  loader.report_mxfp4();
  if (options.fp8_kv_cache && !loader.found_kv_scales() && backend.shard().rank == 0) {
    log_info(opened.checkpoint->path(), ": no static KV scales: one is computed for each token and head");
  }
  LoadedModel out;
  out.model = std::move(model);
  out.matrices = loader.matrices();
  out.opened = std::move(opened);
  return out;
}

Result<LoadedModel> load_model(std::string_view name, Backend& backend, const ModelOptions& options,
                               LoadProgress progress) {
  HEARTH_ASSIGN(OpenedModel opened, open_model(name));
  return load_model(std::move(opened), backend, options, std::move(progress));
}

}  // namespace hearth
