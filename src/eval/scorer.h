// Log-likelihoods of continuations through the engine: what a multiple-choice benchmark asks of a model.
#pragma once

#include <functional>
#include <span>

#include "eval/questions.h"
#include "eval/run_requests.h"
#include "text/tokenizer.h"

namespace hearth {

struct QuestionScore {
  std::vector<double> logprobs;  // of each continuation: the sum over its tokens, natural logarithm
  int64_t chosen = 0;            // the largest; of equals the first
  int64_t chosen_by_byte = 0;    // the largest over the continuation's bytes
  bool cut = false;              // the context was cut from the left to fit the model's
};

struct ScoreOptions {
  int64_t max_model_len = 0;  // tokens
  int64_t most = 128;         // requests under way at a time
  // Most likely tokens that a request may ask for. Where every continuation of a question is one token behind the same
  // context, as the letters of MMLU are, one request gets the log-probabilities of all, if they are among these.
  int32_t most_logprobs = 20;
};

// Tokens: those of context and continuation together, of which the context's own number is not scored; spaces at the
// context's end go to the continuation (as lm-evaluation-harness does).
// A question's first continuation goes ahead of its others, and a subject's first question ahead of its others, so that
// what they share is in the prefix cache.
Result<std::vector<QuestionScore>> score_questions(Engine& engine, const Clock& clock, const Tokenizer& tokenizer,
                                                   std::span<const Question> questions, const ScoreOptions& options,
                                                   const std::function<void(int64_t done, int64_t total)>& progress);

}  // namespace hearth
