// Reading and bounding of the sampling fields, and the list of fields refused because they are not supported.
#include "api/generation_request.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <limits>

namespace hearth {
namespace {

constexpr int64_t kMaxStops = 16;
constexpr int64_t kMaxStopBytes = 1024;
constexpr int64_t kMaxStopTokens = 1024;
constexpr int64_t kMaxBiases = 1024;
constexpr int64_t kMaxSaltBytes = 1024;
constexpr int64_t kMaxBadWords = 256;

void read_stop(Fields& fields, std::vector<std::string>& out) {
  const Json* stop = fields.get("stop");
  if (stop == nullptr) return;
  const auto add = [&](const Json& value) {
    if (!value.is_string()) return fields.refuse("stop", "must be a string or a list of strings");
    const auto& text = value.get_ref<const std::string&>();
    if (text.empty()) return fields.refuse("stop", "must not hold an empty string");
    if (static_cast<int64_t>(text.size()) > kMaxStopBytes) {
      return fields.refuse("stop", cat("must not hold a string longer than ", kMaxStopBytes, " bytes"));
    }
    out.push_back(text);
  };
  if (*stop == "") return;  // UIs send it for none
  if (!stop->is_array()) return add(*stop);
  if (static_cast<int64_t>(stop->size()) > kMaxStops) {
    return fields.refuse("stop", cat("must hold at most ", kMaxStops, " strings"));
  }
  for (const Json& value : *stop) add(value);
}

void read_token_ids(Fields& fields, std::string_view name, int64_t most, const ApiLimits& limits,
                    std::vector<int32_t>& out) {
  const Json* ids = fields.get(name);
  if (ids == nullptr) return;
  if (!ids->is_array() || std::ssize(*ids) > most) {
    return fields.refuse(name, cat("must be a list of at most ", most, " token ids"));
  }
  for (const Json& value : *ids) {
    int64_t id;
    if (!to_integer(value, 0, limits.vocab_size - 1, id)) {
      return fields.refuse(name, cat("must hold token ids from 0 to ", limits.vocab_size - 1));
    }
    out.push_back(static_cast<int32_t>(id));
  }
}

void read_bad_words(Fields& fields, std::vector<std::string>& out) {
  const Json* words = fields.get("bad_words");
  if (words == nullptr) return;
  if (!words->is_array() || std::ssize(*words) > kMaxBadWords) {
    return fields.refuse("bad_words", cat("must be a list of at most ", kMaxBadWords, " strings"));
  }
  for (const Json& word : *words) {
    const bool good = word.is_string() && !word.get_ref<const std::string&>().empty() &&
                      std::ssize(word.get_ref<const std::string&>()) <= kMaxStopBytes;
    if (!good) return fields.refuse("bad_words", cat("must hold strings of 1 to ", kMaxStopBytes, " bytes"));
    out.push_back(word.get_ref<const std::string&>());
  }
}

void read_logit_bias(Fields& fields, const ApiLimits& limits, std::vector<std::pair<int32_t, float>>& out) {
  const Json* biases = fields.get("logit_bias");
  if (biases == nullptr || *biases == Json::array()) return;  // PHP's empty object
  if (!biases->is_object() || static_cast<int64_t>(biases->size()) > kMaxBiases) {
    return fields.refuse("logit_bias", cat("must be an object of at most ", kMaxBiases, " token ids"));
  }
  for (const auto& [key, value] : biases->get_ref<const Json::object_t&>()) {
    int64_t id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id < 0 || id >= limits.vocab_size) {
      return fields.refuse("logit_bias", cat("must have token ids from 0 to ", limits.vocab_size - 1, " as keys"));
    }
    const double bias = value.is_number() ? value.get<double>() : 1e9;
    if (!(bias >= -100 && bias <= 100)) {
      return fields.refuse("logit_bias", "must have numbers from -100 to 100 as values");
    }
    out.emplace_back(static_cast<int32_t>(id), static_cast<float>(bias));
  }
}

void read_stream_options(Fields& fields, GenerationRequest& out) {
  const Json* options = fields.get("stream_options");
  if (options == nullptr) return;
  if (!options->is_object()) return fields.refuse("stream_options", "must be an object");
  Fields inner(*options, "stream_options");
  inner.read("include_usage", out.include_usage);
  inner.read("continuous_usage_stats", out.continuous_usage);
  fields.fail(inner.status());
  const bool asks = out.include_usage || out.continuous_usage;
  if (asks && !out.stream) fields.refuse("stream_options", "needs stream to be true");
}

void read_best_of(Fields& fields, const ApiLimits& limits, GenerationRequest& out) {
  out.best_of = out.n;
  fields.read("best_of", out.best_of, 1, limits.max_choices);
  if (out.best_of < out.n) fields.refuse("best_of", "must not be below n");
  if (out.best_of > out.n && out.stream) fields.refuse("best_of", "above n cannot be streamed");
}

void read_prompt_fields(Fields& fields, const ApiLimits& limits, GenerationRequest& out) {
  if (fields.get("truncate_prompt_tokens") != nullptr) {
    int64_t most = 0;
    fields.read("truncate_prompt_tokens", most, -1, INT64_MAX);
    if (most == 0) fields.refuse("truncate_prompt_tokens", "must be at least 1, or -1");
    out.truncate_prompt_tokens = most;
  }
  const Json* value = fields.get("prompt_logprobs");
  if (value == nullptr || *value == false) return;
  int32_t top = 0;
  fields.read("prompt_logprobs", top, 0, static_cast<int32_t>(limits.max_logprobs));
  if (out.stream) fields.refuse("prompt_logprobs", "cannot be streamed");
  out.prompt_logprobs = top;
  out.sampling.prompt_logprobs = top;
}

// Values that ask for nothing beyond the default.
bool is_neutral(std::string_view name, const Json& value) {
  if (value.is_boolean()) return !value.get<bool>() || name == "spaces_between_special_tokens" || name == "detokenize";
  if (value == "") return true;
  if (value.is_array() || value.is_object()) {
    if (name == "modalities" && value == Json::array({"text"})) return true;
    return value.empty();
  }
  if (name == "function_call") return value == "none" || value == "auto";
  if (name == "length_penalty") return value == 1.0;
  if (name == "truncation_side") return value == "left";
  return false;
}

void refuse_unsupported(Fields& fields) {
  static constexpr std::string_view kUnsupported[] = {"functions",
                                                      "function_call",
                                                      "suffix",
                                                      "use_beam_search",
                                                      "length_penalty",
                                                      "logits_processors",
                                                      "prompt_embeds",
                                                      "chat_template",
                                                      "truncation_side",
                                                      "audio",
                                                      "modalities",
                                                      "prediction",
                                                      "web_search_options",
                                                      "mm_processor_kwargs",
                                                      "spaces_between_special_tokens",
                                                      "kv_transfer_params",
                                                      "thinking"};
  for (const std::string_view name : kUnsupported) {
    const Json* value = fields.get(name);
    if (value != nullptr && !is_neutral(name, *value)) return fields.refuse(name, "is not supported");
  }
}

}  // namespace

void read_sampling_fields(Fields& fields, SamplingParams& out) {
  fields.read("temperature", out.temperature, 0, 100);
  fields.read("top_p", out.top_p, 0, 1);
  if (out.top_p == 0) fields.refuse("top_p", "must be above 0");
  fields.read("min_p", out.min_p, 0, 1);
  fields.read("top_k", out.top_k, -1, std::numeric_limits<int32_t>::max());
  out.top_k = std::max(out.top_k, 0);
  fields.read("repetition_penalty", out.repetition_penalty, 0, 10);
  if (out.repetition_penalty == 0) fields.refuse("repetition_penalty", "must be above 0");
}

void read_generation_fields(Fields& fields, const ApiLimits& limits, GenerationRequest& out) {
  out.sampling = limits.defaults;
  SamplingParams& s = out.sampling;
  fields.read("model", out.model);
  read_sampling_fields(fields, s);
  if (s.top_k >= limits.vocab_size) s.top_k = 0;
  fields.read("frequency_penalty", s.frequency_penalty, -2, 2);
  fields.read("presence_penalty", s.presence_penalty, -2, 2);
  if (fields.get("seed") != nullptr) {
    int64_t seed = 0;
    fields.read("seed", seed, std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max());
    out.seed = static_cast<uint64_t>(seed);
  }
  read_logit_bias(fields, limits, s.logit_bias);
  read_stop(fields, out.stop);
  read_token_ids(fields, "stop_token_ids", kMaxStopTokens, limits, s.stop_token_ids);
  read_token_ids(fields, "allowed_token_ids", limits.vocab_size, limits, out.allowed_token_ids);
  read_bad_words(fields, out.bad_words);
  fields.read("include_stop_str_in_output", out.include_stop);
  fields.read("skip_special_tokens", out.skip_special_tokens);
  fields.read("ignore_eos", s.ignore_eos);
  fields.read("n", out.n, 1, limits.max_choices);
  fields.read("stream", out.stream);
  read_best_of(fields, limits, out);
  read_prompt_fields(fields, limits, out);
  fields.read("return_token_ids", out.return_token_ids);
  fields.read("return_tokens_as_token_ids", out.tokens_as_ids);
  read_stream_options(fields, out);
  fields.read("cache_salt", out.cache_salt);
  if (std::ssize(out.cache_salt) > kMaxSaltBytes) {
    fields.refuse("cache_salt", cat("must not be longer than ", kMaxSaltBytes, " bytes"));
  }
  fields.read("priority", out.priority, std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max());
  // chat's newer name wins; both are bounded by the context later, together with the prompt
  for (const std::string_view name : {"max_tokens", "max_completion_tokens"}) {
    if (fields.get(name) == nullptr) continue;
    int64_t value = 0;
    fields.read(name, value, 0, INT64_MAX);
    out.max_tokens = value;
  }
  fields.read("min_tokens", s.min_tokens, 0, INT64_MAX);
  if (out.max_tokens && s.min_tokens > *out.max_tokens) fields.refuse("min_tokens", "must not be above max_tokens");
  read_answer_form(fields, out.form);
  refuse_unsupported(fields);
}

}  // namespace hearth
