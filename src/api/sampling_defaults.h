// What a request gets where it names no temperature, top_p, top_k, min_p or repetition_penalty: the model's own values.
#pragma once

#include "base/json.h"
#include "engine/request.h"

namespace hearth {

// `config` is generation_config.json's object, of which these five count; a null is absent. What is absent too stays as
// in `base`. The bounds are a request's. Errors name the field.
Result<SamplingParams> sampling_defaults(const Json& config, SamplingParams base);

// "temperature 0.6, top_p 0.9": those that are not OpenAI's; empty: all are.
std::string describe_defaults(const SamplingParams& defaults);

}  // namespace hearth
