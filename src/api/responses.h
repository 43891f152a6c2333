// The answers of both generation endpoints in OpenAI's JSON, whole and as stream chunks, written straight to a string.
#pragma once

#include <span>
#include <string>

#include "api/choice.h"

namespace hearth {

enum class AnswerKind { kCompletion, kChat };

// What all chunks of an answer share.
struct ResponseHead {
  AnswerKind kind = AnswerKind::kCompletion;
  std::string id;
  int64_t created = 0;  // Unix seconds
  std::string model;
  bool logprobs = false;
  bool prompt_logprobs = false, token_ids = false;  // these stand in the answer too
  bool tokens_as_ids = false;                       // log-probabilities name tokens "token_id:7"
};

struct Usage {
  int64_t prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0;
};

enum class UsageField { kAbsent, kNull, kPresent };

// One object: a whole answer (every choice once) or, with `chunk`, a stream's piece: what one choice has, or the last
// chunk with the usage alone. The caller then calls taken().
void write_response(std::string& out, const ResponseHead& head, const Tokenizer& tokenizer, bool chunk,
                    std::span<Choice* const> choices, UsageField usage_field, const Usage& usage);

}  // namespace hearth
