// The answers of completions and chat completions, whole and as stream chunks, written straight to a string.
#pragma once

#include <string>

#include "api/answer_writer.h"

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

struct OpenAiStream {
  bool include_usage = false;     // one last chunk with the usage
  bool continuous_usage = false;  // usage in every chunk
};
// `tokenizer` outlives the writer.
std::unique_ptr<AnswerWriter> make_openai_writer(ResponseHead head, const Tokenizer& tokenizer, OpenAiStream stream);

}  // namespace hearth
