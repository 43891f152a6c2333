// The file's fields go by the names and bounds of a request's.
#include "api/sampling_defaults.h"

#include <nlohmann/json.hpp>

#include "api/generation_request.h"

namespace hearth {

Result<SamplingParams> sampling_defaults(const Json& config, SamplingParams base) {
  Fields fields(config);
  read_sampling_fields(fields, base);
  if (!fields.ok()) return fields.status();
  return base;
}

std::string describe_defaults(const SamplingParams& defaults) {
  const SamplingParams openai;
  std::string out;
  const auto add = [&out](std::string_view name, auto value, auto usual) {
    if (value != usual) out += cat(out.empty() ? "" : ", ", name, " ", value);
  };
  add("temperature", defaults.temperature, openai.temperature);
  add("top_p", defaults.top_p, openai.top_p);
  add("top_k", defaults.top_k, openai.top_k);
  add("min_p", defaults.min_p, openai.min_p);
  add("repetition_penalty", defaults.repetition_penalty, openai.repetition_penalty);
  return out;
}

}  // namespace hearth
