// Prompts in their four shapes (text, list of texts, ids, list of ids; mixed lists too), echo and logprobs.
#include "api/completion_request.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace hearth {
namespace {

constexpr std::string_view kPromptShapes =
    "must be a string, a list of strings, a list of token ids or a list of such lists";

// Ids beyond the context are counted, not kept: the length check that follows refuses them with the true number.
bool read_ids(const Json& list, const ApiLimits& limits, std::vector<int32_t>& out) {
  out.reserve(list.size());
  for (const Json& value : list) {
    int64_t id;
    if (!to_integer(value, 0, limits.vocab_size - 1, id)) return false;
    out.push_back(static_cast<int32_t>(id));
  }
  return true;
}

void read_prompts(Fields& fields, const ApiLimits& limits, std::vector<CompletionPrompt>& out) {
  const Json* prompt = fields.get("prompt");
  if (prompt == nullptr) return fields.refuse("prompt", "is required");
  const auto add = [&](const Json& one) {
    if (one.is_string()) {
      out.emplace_back(one.get_ref<const std::string&>());
      return;
    }
    if (!one.is_array()) return fields.refuse("prompt", kPromptShapes);
    if (one.empty()) return fields.refuse("prompt", "must not be empty");
    std::vector<int32_t> ids;
    if (!read_ids(one, limits, ids)) {
      return fields.refuse("prompt", cat("must hold token ids from 0 to ", limits.vocab_size - 1));
    }
    out.emplace_back(std::move(ids));
  };
  if (!prompt->is_array()) return add(*prompt);
  if (prompt->empty()) return fields.refuse("prompt", "must not be empty");
  if (prompt->front().is_number()) return add(*prompt);
  if (static_cast<int64_t>(prompt->size()) > limits.max_choices) {
    return fields.refuse("prompt", cat("must hold at most ", limits.max_choices, " prompts"));
  }
  for (const Json& one : *prompt) add(one);
}

}  // namespace

Result<CompletionRequest> parse_completion_request(const Json& body, const ApiLimits& limits) {
  CompletionRequest out;
  Fields fields(body);
  read_generation_fields(fields, limits, out);
  read_prompts(fields, limits, out.prompts);
  refuse_chat_fields(fields);
  fields.read("echo", out.echo);
  fields.read("add_special_tokens", out.add_special_tokens);
  fields.read("split_special_tokens", out.split_special_tokens);
  fields.read("logprobs", out.sampling.logprobs, 0, static_cast<int32_t>(limits.max_logprobs));
  if (out.echo) out.sampling.prompt_logprobs = std::max(out.sampling.prompt_logprobs, out.sampling.logprobs);
  if (out.max_tokens == 0 && !out.echo && !out.prompt_logprobs) {
    fields.refuse("max_tokens", "must be at least 1 without echo or prompt_logprobs");
  }
  if (static_cast<int64_t>(out.prompts.size()) * out.best_of > limits.max_choices) {
    fields.refuse(out.best_of > out.n ? "best_of" : "n",
                  cat("times the number of prompts must be at most ", limits.max_choices));
  }
  if (!fields.ok()) return fields.status();
  return out;
}

}  // namespace hearth
