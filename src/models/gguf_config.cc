// A GGUF file's metadata to ModelConfig, every number checked for type and range.
#include <algorithm>

#include "models/config.h"
#include "models/family.h"
#include "models/gguf_metadata.h"

namespace hearth {
namespace {

Status read_attention(const GgufFields& fields, const Family& family, int64_t hidden, AttentionSpec& out) {
  const std::string& path = fields.file().path();
  HEARTH_ASSIGN(out.heads, fields.integer("attention.head_count", kMaxHeads));
  HEARTH_ASSIGN(out.kv_heads, fields.integer("attention.head_count_kv", kMaxHeads, out.heads));
  if (!fields.has("attention.key_length") && hidden % out.heads != 0) {
    return invalid(path, ": ", fields.name("embedding_length"), ": expected a multiple of attention.head_count ",
                   out.heads, ", found ", hidden);
  }
  HEARTH_ASSIGN(out.head_dim, fields.integer("attention.key_length", kMaxHeadDim, hidden / out.heads));
  HEARTH_ASSIGN(const int64_t value_dim, fields.integer("attention.value_length", kMaxHeadDim, out.head_dim));
  HEARTH_ASSIGN(out.rotary, fields.integer("rope.dimension_count", kMaxHeadDim, out.head_dim));
  if (value_dim != out.head_dim || (out.rotary != out.head_dim && !family.rotary_share)) {
    return unimplemented(path, ": expected keys, values and rotation of ", out.head_dim, " channels, found ", value_dim,
                         " and ", out.rotary);
  }
  return {};
}

}  // namespace

Result<ModelConfig> read_gguf_config(const Checkpoint& checkpoint) {
  const GgufFile& file = *checkpoint.gguf();
  HEARTH_ASSIGN(const std::string_view architecture, file.string("general.architecture"));
  const Family* family = find_gguf_family(architecture);
  if (family == nullptr) {
    return unimplemented(file.path(), ": general.architecture: expected one of ", gguf_family_names(), ", found ",
                         printable(architecture));
  }
  const GgufFields fields(checkpoint, architecture);
  ModelConfig out;
  out.architecture = family->name;
  LayerSpec layer;
  FeedForwardSpec& f = layer.feed_forward;
  HEARTH_ASSIGN(out.hidden, fields.integer("embedding_length", kMaxDim));
  HEARTH_ASSIGN(const int64_t layers, fields.integer("block_count", kMaxLayers));
  HEARTH_TRY(read_attention(fields, *family, out.hidden, layer.attention));
  HEARTH_ASSIGN(f.intermediate, fields.integer("feed_forward_length", kMaxDim));
  HEARTH_ASSIGN(out.max_positions, fields.integer("context_length", kMaxPositions));
  HEARTH_ASSIGN(f.experts, fields.integer("expert_count", kMaxExperts, 0));
  HEARTH_ASSIGN(f.experts_per_token, fields.integer("expert_used_count", kMaxExperts, 0));
  if (f.experts > 0 && f.experts_per_token == 0) {
    return invalid(file.path(), ": ", fields.name("expert_used_count"), ": expected 1 to ", f.experts,
                   ", found nothing");
  }
  out.layers.assign(static_cast<size_t>(layers), layer);
  HEARTH_ASSIGN(const double epsilon, fields.number("attention.layer_norm_rms_epsilon"));
  out.rms_epsilon = static_cast<float>(epsilon);
  HEARTH_ASSIGN(out.rope, read_gguf_rope(checkpoint, architecture, layer.attention.rotary, out.max_positions));
  HEARTH_TRY(family->read_gguf(fields, out));
  out.tied_head = !checkpoint.has("output.weight");
  out.dtype = DType::kF16;

  // The vocabulary is counted, not believed: tokens and rows of the embedding must be as many.
  HEARTH_ASSIGN(const GgufTokenizer tokenizer, read_gguf_tokenizer(file));
  out.vocab = static_cast<int64_t>(tokenizer.tokens.size());
  if (out.vocab > kMaxDim) return invalid(file.path(), ": expected at most ", kMaxDim, " tokens, found ", out.vocab);
  for (const auto& id : {tokenizer.eos, tokenizer.eot, tokenizer.eom}) {
    if (id && std::find(out.eos.begin(), out.eos.end(), *id) == out.eos.end()) {
      out.eos.push_back(static_cast<int32_t>(*id));
    }
  }
  if (tokenizer.bos) out.bos = static_cast<int32_t>(*tokenizer.bos);
  HEARTH_TRY(refuse_unread_keys(file, architecture));
  HEARTH_TRY(check_consistent(out, file.path()));
  return out;
}

}  // namespace hearth
