// Tokens to text: detokenizer, then stop strings; a stop token itself is not shown.
#include "api/choice.h"

namespace hearth {

Choice::Choice(const Tokenizer& tokenizer, const GenerationRequest& request, int64_t index_in, int64_t prompt_tokens_in)
    : index(index_in),
      prompt_tokens(prompt_tokens_in),
      logprobs_(request.sampling.logprobs >= 0),
      show_stop_(request.include_stop),
      min_tokens_(request.sampling.min_tokens),
      detokenizer_(tokenizer, {.skip_special = request.skip_special_tokens, .at_start = false}),
      stops_(request.stop),
      stop_strings_(request.stop) {}

void Choice::echo(std::string prompt_text, std::vector<int32_t> prompt) {
  text = std::move(prompt_text);
  if (logprobs_) echoed_ = std::move(prompt);
}

void Choice::consume(RequestEvent&& event) {
  if (finish) return;  // tokens that were on their way when a stop string ended the text
  begun_ = true;
  if (!event.prompt_logprobs.empty()) {
    for (size_t i = 0; i < echoed_.size() && i < event.prompt_logprobs.size(); ++i) {
      tokens.push_back({echoed_[i], std::move(event.prompt_logprobs[i])});
    }
    echoed_.clear();
  }
  cached_tokens = event.cached_tokens;
  for (size_t i = 0; i < event.tokens.size() && !finish; ++i) {
    const bool is_stop_token = event.finish == FinishReason::kStop && i + 1 == event.tokens.size();
    add_token(std::move(event.tokens[i]), !is_stop_token || show_stop_);
  }
  if (finish) {
    stopped_by_string = !event.finish;
  } else if (event.finish) {
    error = std::move(event.error);
    end(*event.finish);
  }
}

void Choice::add_token(OutputToken&& token, bool shown) {
  ++completion_tokens;
  const int32_t id = token.token;
  if (logprobs_) tokens.push_back(std::move(token));
  if (!shown) return;
  const std::string piece = detokenizer_.push(id);
  if (completion_tokens < min_tokens_) {
    text += piece;
  } else {
    add_text(piece);
  }
}

void Choice::add_text(std::string_view piece) {
  const StopMatcher::Text out = stops_.push(piece);
  text += out.text;
  if (!out.stopped) return;
  if (show_stop_) text += stop_strings_[out.stop];
  finish = FinishReason::kStop;
}

void Choice::end(FinishReason reason) {
  add_text(detokenizer_.finish());
  if (finish) return;
  text += stops_.finish();
  finish = reason;
}

void Choice::taken() {
  text.clear();
  tokens.clear();
  first = false;
  finish_taken_ = finish.has_value();
}

}  // namespace hearth
