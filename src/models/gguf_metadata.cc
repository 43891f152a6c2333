// Rules of llama.cpp, which is what files are written for: which key stands for which, and what holds where one is
// absent.
#include "models/gguf_metadata.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "weights/gguf.h"

namespace hearth {
namespace {

// Keys of any architecture that change nothing: whatever they say, or while they say `only`.
struct Harmless {
  std::string_view key;
  std::optional<double> only;
};
constexpr Harmless kHarmless[] = {
    {"vocab_size", {}},  // tokens are counted
    {"rope.scaling.finetuned", {}},
    {"attention.layer_norm_epsilon", {}},  // of norms that these models do not have
    {"attention.causal", 1},
    {"attention.clamp_kqv", 0},
    {"attention.max_alibi_bias", 0},
    {"attention.sliding_window", 0},
    {"use_parallel_residual", 0},
    {"pooling_type", 0},
    {"leading_dense_block_count", 0},
    {"expert_shared_count", 0},
    {"expert_group_count", 0},
    {"expert_group_used_count", 0},
    {"expert_gating_func", 1},  // softmax
    {"expert_weights_scale", 1},
};

// Of "tokenizer.ggml.": ids that only other uses of a model need, and what is read elsewhere or counted.
constexpr Harmless kHarmlessOfTokenizers[] = {
    {"token_type_count", {}},        {"prefix_token_id", {}},  {"suffix_token_id", {}},  {"middle_token_id", {}},
    {"fim_pre_token_id", {}},        {"fim_suf_token_id", {}}, {"fim_mid_token_id", {}}, {"fim_pad_token_id", {}},
    {"fim_rep_token_id", {}},        {"fim_sep_token_id", {}}, {"mask_token_id", {}},    {"cls_token_id", {}},
    {"seperator_token_id", {}},  // as gguf-py spells it
    {"remove_extra_whitespaces", 0}, {"add_sep_token", 0},
};

bool is_harmless(const GgufFile& file, std::string_view key, std::string_view name, std::span<const Harmless> known) {
  const auto entry = std::ranges::find(known, name, &Harmless::key);
  if (entry == known.end()) return false;
  return !entry->only || file.any_number(key) == entry->only;
}

}  // namespace

Result<RopeConfig> read_gguf_rope(const Checkpoint& checkpoint, std::string_view architecture, int64_t rotary,
                                  int64_t max_positions) {
  const GgufFile& file = *checkpoint.gguf();
  const auto name = [&](std::string_view key) { return cat(architecture, ".rope.", key); };
  const auto positive = [&](std::string_view key, std::optional<double> fallback = {}) -> Result<double> {
    HEARTH_ASSIGN(const double value, file.number(name(key), fallback));
    if (value > 0 && std::isfinite(value)) return value;
    return invalid(file.path(), ": ", name(key), ": expected a number above 0, found ", value);
  };
  RopeConfig out;
  HEARTH_ASSIGN(out.theta, file.number(name("freq_base"), 10000.0));
  if (!(out.theta > 1) || !std::isfinite(out.theta)) {
    return invalid(file.path(), ": ", name("freq_base"), ": expected a number above 1, found ", out.theta);
  }
  // A factor without a type is linear; scale_linear is the factor's name of 2023.
  const bool has_factor = file.has(name("scaling.factor")), has_old_factor = file.has(name("scale_linear"));
  const bool scales = has_factor || has_old_factor;
  HEARTH_ASSIGN(const std::string_view type, file.string(name("scaling.type"), scales ? "linear" : "none"));
  if (type != "none" && type != "linear" && type != "yarn") {
    return unimplemented(file.path(), ": ", name("scaling.type"), ": expected none, linear or yarn, found ",
                         printable(type));
  }
  HEARTH_ASSIGN(const double old_factor, positive("scale_linear", 1.0));
  HEARTH_ASSIGN(
      const double factor,
      positive("scaling.factor", type == "none" || has_old_factor ? std::optional(old_factor) : std::nullopt));
  HEARTH_ASSIGN(const int64_t original, file.integer(name("scaling.original_context_length"), max_positions));
  if (original < 1) {
    return invalid(file.path(), ": ", name("scaling.original_context_length"), ": expected an integer above 0, found ",
                   original);
  }
  out.original_max_positions = static_cast<double>(original);
  HEARTH_ASSIGN(out.beta_fast, positive("scaling.yarn_beta_fast", 32.0));
  HEARTH_ASSIGN(out.beta_slow, positive("scaling.yarn_beta_slow", 1.0));
  HEARTH_ASSIGN(const double attention_factor, positive("scaling.attn_factor", 1.0));
  HEARTH_ASSIGN(out.attention_factor, positive("scaling.yarn_attn_factor", attention_factor));
  if (type == "linear") out.scaling = RopeScaling::kLinear;
  if (type == "yarn") out.scaling = RopeScaling::kYarn;
  if (type != "none") out.factor = factor;
  if (type == "yarn" && factor > 1) out.attention_factor *= 0.1 * std::log(factor) + 1;

  constexpr const char* kDivisors = "rope_freqs.weight";  // Llama 3.1's scaling, made into a table by the converter
  if (!checkpoint.has(kDivisors)) return out;
  HEARTH_ASSIGN(const HostTensor divisors, checkpoint.read(kDivisors, {rotary / 2}));
  if (divisors.view.dtype != DType::kF32) return invalid(file.path(), ": ", kDivisors, ": expected F32");
  out.divisors.assign(divisors.view.as<float>(), divisors.view.as<float>() + rotary / 2);
  for (const float d : out.divisors) {
    if (!(d > 0) || !std::isfinite(d)) {
      return invalid(file.path(), ": ", kDivisors, ": expected divisors above 0, found ", d);
    }
  }
  return out;
}

Status refuse_unread_keys(const GgufFile& file, std::string_view architecture) {
  const std::string prefix = cat(architecture, ".");
  constexpr std::string_view kTokenizer = "tokenizer.ggml.";
  // The rows of q and k are in the order of this layout in every file of these architectures.
  HEARTH_ASSIGN(const std::string_view layout, file.string(cat(prefix, "tensor_data_layout"), "Meta AI original pth"));
  if (layout != "Meta AI original pth") {
    return unimplemented(file.path(), ": ", prefix, "tensor_data_layout: expected Meta AI original pth, found ",
                         printable(layout));
  }
  HEARTH_ASSIGN(const std::string_view kind, file.string("general.type", "model"));
  if (kind != "model") {
    return unimplemented(file.path(), ": general.type: expected model, found ", printable(kind));
  }
  for (const std::string_view key : file.unread_keys()) {
    const bool of_model = key.starts_with(prefix), of_tokenizer = key.starts_with(kTokenizer);
    if (of_model && is_harmless(file, key, key.substr(prefix.size()), kHarmless)) continue;
    if (of_tokenizer && is_harmless(file, key, key.substr(kTokenizer.size()), kHarmlessOfTokenizers)) continue;
    if (of_model || of_tokenizer) {
      return unimplemented(file.path(), ": ", printable(key), ": a key that is not read, or not with this value");
    }
  }
  return {};
}

}  // namespace hearth
