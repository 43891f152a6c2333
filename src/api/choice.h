// Choice: one engine request's tokens turned into text, with stop strings and log-probabilities. It holds what its
// client has not been given yet.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/generation_request.h"
#include "formats/answer_parser.h"
#include "text/detokenizer.h"

namespace hearth {

struct AnswerToken : OutputToken {
  int64_t text_offset = 0;  // characters of the whole text before it
};

// What came of a tool call since the last time.
struct CallDelta {
  int64_t index = 0;
  std::string id, name;  // with the call's first
  std::string arguments;
};

class Choice {
 public:
  Choice(const Tokenizer& tokenizer, const GenerationRequest& request, int64_t index, int64_t prompt_tokens);

  // The prompt goes before what is generated, with its log-probabilities where they are wanted.
  void echo(std::string text, const std::vector<int32_t>& prompt);
  // What the tokens say is taken apart: reasoning and calls are no content.
  void parse_with(const ParserOptions& options, bool show_reasoning);
  void consume(RequestEvent&& event);

  // Whether there is something to give; then read the fields and call taken().
  bool has_news() const {
    return begun_ && (!text.empty() || !reasoning.empty() || !calls.empty() || !tokens.empty() || !token_ids.empty() ||
                      (finish && !finish_taken_));
  }
  void taken();

  int64_t index;
  const int64_t prompt_tokens;
  std::string text;
  std::string reasoning;
  std::vector<CallDelta> calls;
  int64_t num_calls = 0;                                     // of the whole answer
  std::vector<AnswerToken> tokens;                           // only where log-probabilities are wanted
  std::vector<int32_t> token_ids;                            // of what is generated; only where they are wanted
  std::vector<int32_t> prompt_ids;                           // likewise; the caller's to fill
  std::vector<std::optional<TokenLogprob>> prompt_logprobs;  // only where they are wanted
  double logprob_sum = 0;                                    // of what is generated, where the engine says it
  std::optional<FinishReason> finish;
  Status error;                            // with FinishReason::kError
  bool stopped_by_string = false;          // the engine still has to be told
  bool first = true;                       // nothing was taken so far
  std::optional<std::string> stop_string;  // that ended the text
  int64_t completion_tokens = 0, reasoning_tokens = 0;
  int64_t cached_tokens = 0;

 private:
  void add_token(OutputToken&& token, bool shown);
  void add_text(std::string_view piece);
  // A control token that shows no text; a stop string may name it.
  void add_hidden(int32_t id);
  void take(const StopMatcher::Text& out);
  void add_pieces(std::vector<AnswerPiece> pieces);
  // `stop_token`: the engine ended at it.
  void end(FinishReason reason, std::optional<int32_t> stop_token);

  const Tokenizer& tokenizer_;
  const bool logprobs_, ids_, prompt_logprobs_, show_stop_, hides_control_;
  const int32_t num_top_;
  const int64_t min_tokens_;
  int64_t characters_ = 0;        // of the whole text, what is held back among it
  int64_t taken_characters_ = 0;  // of the texts taken
  bool begun_ = false, finish_taken_ = false;
  IncrementalDetokenizer detokenizer_;
  StopMatcher stops_;
  std::unique_ptr<AnswerParser> parser_;  // or none
  bool show_reasoning_ = true;
  std::string_view call_id_prefix_;
  size_t call_id_length_ = 0;
  const std::vector<std::string> stop_strings_;
  std::vector<AnswerToken> echoed_;  // until their log-probabilities come
};

}  // namespace hearth
