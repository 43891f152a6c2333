// GenerationRequest: the fields that completions and chat completions share, checked against the model's limits.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "api/answer_fields.h"
#include "api/fields.h"
#include "engine/request.h"

namespace hearth {

struct ApiLimits {
  int64_t vocab_size = 0;
  int64_t max_model_len = 0;
  int64_t max_logprobs = 20;
  int64_t max_choices = 128;  // prompts times n of one call: each is a request of the engine
  SamplingParams defaults;    // what a request does not name
};

struct GenerationRequest {
  std::string model;                  // empty: whichever is served
  SamplingParams sampling;            // max_tokens and seed are filled in when the prompt is known
  std::optional<int64_t> max_tokens;  // none: the endpoint's default
  std::optional<uint64_t> seed;       // none: drawn
  std::vector<std::string> stop;
  bool include_stop = false;  // the stop string stays in the text
  bool skip_special_tokens = true;
  int64_t n = 1;
  int64_t best_of = 1;  // so many are generated, and the n with the highest log-probability a token are the answer
  std::optional<int64_t> truncate_prompt_tokens;  // only the prompt's last ones are taken; -1: as many as fit
  std::optional<int32_t> prompt_logprobs;         // the prompt's log-probabilities, by token id
  bool return_token_ids = false;                  // of the prompt and of what is generated
  bool tokens_as_ids = false;                     // log-probabilities name tokens "token_id:7"
  std::vector<int32_t> allowed_token_ids;         // no others are generated; empty: all may be
  std::vector<std::string> bad_words;             // are not generated
  bool stream = false;
  bool include_usage = false;     // stream: one last chunk with the usage
  bool continuous_usage = false;  // stream: usage in every chunk
  int32_t priority = 0;
  std::string cache_salt;
  AnswerForm form;
};

// temperature, top_p, top_k, min_p and repetition_penalty. A top_k of 0 or -1 is all.
void read_sampling_fields(Fields& fields, SamplingParams& out);

// The shared fields; also refuses what would change the result and is not supported. Logprobs, which the endpoints
// spell differently, are theirs to read.
void read_generation_fields(Fields& fields, const ApiLimits& limits, GenerationRequest& out);

}  // namespace hearth
