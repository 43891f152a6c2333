// Choice: one engine request's tokens turned into text, with stop strings and log-probabilities. It holds what its
// client has not been given yet.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "api/generation_request.h"
#include "text/detokenizer.h"

namespace hearth {

class Choice {
 public:
  Choice(const Tokenizer& tokenizer, const GenerationRequest& request, int64_t index, int64_t prompt_tokens);

  // The prompt goes before what is generated, with its log-probabilities where they are wanted.
  void echo(std::string text, std::vector<int32_t> prompt);
  void consume(RequestEvent&& event);

  // Whether there is something to give; then read the fields and call taken().
  bool has_news() const { return begun_ && (!text.empty() || !tokens.empty() || (finish && !finish_taken_)); }
  void taken();

  const int64_t index;
  const int64_t prompt_tokens;
  std::string text;
  std::vector<OutputToken> tokens;  // only where log-probabilities are wanted
  std::optional<FinishReason> finish;
  Status error;                    // with FinishReason::kError
  bool stopped_by_string = false;  // the engine still has to be told
  bool first = true;               // nothing was taken so far
  int64_t text_offset = 0;         // characters in the texts of all tokens taken so far: the writer counts them
  int64_t completion_tokens = 0;
  int64_t cached_tokens = 0;

 private:
  void add_token(OutputToken&& token, bool shown);
  void add_text(std::string_view piece);
  void end(FinishReason reason);

  const bool logprobs_, show_stop_;
  const int64_t min_tokens_;
  bool begun_ = false, finish_taken_ = false;
  IncrementalDetokenizer detokenizer_;
  StopMatcher stops_;
  const std::vector<std::string> stop_strings_;
  std::vector<int32_t> echoed_;  // until their log-probabilities come
};

}  // namespace hearth
