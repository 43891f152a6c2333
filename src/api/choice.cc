// Tokens to text: detokenizer, then stop strings; a stop token itself is not shown.
#include "api/choice.h"

#include <algorithm>

#include "api/random_id.h"
#include "text/utf8.h"

namespace hearth {
namespace {

// Where each of a prompt's tokens begins in its text, in characters. A token whose bytes are not there (one put in
// front, one rewritten by normalization) stands where the last one ended; a part of a character, where that begins.
std::vector<AnswerToken> place(std::string_view text, const std::vector<int32_t>& prompt, const Tokenizer& tokenizer) {
  constexpr size_t kReach = 16;  // bytes to look ahead
  std::vector<AnswerToken> out;
  size_t at = 0, counted = 0;
  int64_t before = 0;  // characters that begin before `counted`
  for (const int32_t id : prompt) {
    std::string_view bytes = tokenizer.token_bytes(id);
    if (at == 0 && tokenizer.strips_leading_space() && bytes.starts_with(' ') && !text.starts_with(' ')) {
      bytes.remove_prefix(1);
    }
    const size_t found = text.substr(at, bytes.size() + kReach).find(bytes);
    const bool is_there = !bytes.empty() && found != text.npos;
    if (is_there) at += found;
    before += count_characters(text.substr(counted, at - counted));
    counted = at;
    const bool inside = at < text.size() && (text[at] & 0xC0) == 0x80;
    AnswerToken& token = out.emplace_back();
    token.token = id;
    token.text_offset = before - (inside ? 1 : 0);
    if (is_there) at += bytes.size();
  }
  return out;
}

}  // namespace

Choice::Choice(const Tokenizer& tokenizer, const GenerationRequest& request, int64_t index_in, int64_t prompt_tokens_in)
    : index(index_in),
      prompt_tokens(prompt_tokens_in),
      tokenizer_(tokenizer),
      logprobs_(request.sampling.logprobs >= 0),
      ids_(request.return_token_ids),
      prompt_logprobs_(request.prompt_logprobs.has_value()),
      show_stop_(request.include_stop),
      hides_control_(request.skip_special_tokens),
      num_top_(std::max(request.sampling.logprobs, 0)),
      min_tokens_(request.sampling.min_tokens),
      detokenizer_(tokenizer, {.skip_special = request.skip_special_tokens, .at_start = false}),
      stops_(request.stop, request.skip_special_tokens ? &tokenizer : nullptr),
      stop_strings_(request.stop) {}

void Choice::echo(std::string prompt_text, const std::vector<int32_t>& prompt) {
  text = std::move(prompt_text);
  characters_ = count_characters(text);
  if (logprobs_) echoed_ = place(text, prompt, tokenizer_);
}

void Choice::parse_with(const ParserOptions& options, bool show_reasoning) {
  static const CallFormat kDefault;
  parser_ = make_answer_parser(options);
  show_reasoning_ = show_reasoning;
  const CallFormat& calls_of = options.format.calls == nullptr ? kDefault : *options.format.calls;
  call_id_prefix_ = calls_of.id_prefix;
  call_id_length_ = calls_of.id_length;
}

void Choice::consume(RequestEvent&& event) {
  if (finish) return;  // tokens that were on their way when a stop string ended the text
  begun_ = true;
  if (!event.prompt_logprobs.empty()) {
    for (size_t i = 0; i < echoed_.size() && i < event.prompt_logprobs.size(); ++i) {
      AnswerToken& token = tokens.emplace_back(std::move(echoed_[i]));
      token.logprob = event.prompt_logprobs[i];
      // prompt_logprobs may have asked for more.
      if (token.logprob && std::ssize(token.logprob->top) > num_top_) token.logprob->top.resize(num_top_);
    }
    echoed_.clear();
    if (prompt_logprobs_) prompt_logprobs = std::move(event.prompt_logprobs);
  }
  cached_tokens = event.cached_tokens;
  std::optional<int32_t> stop_token;
  for (size_t i = 0; i < event.tokens.size() && !finish; ++i) {
    const int32_t id = event.tokens[i].token;
    if (event.finish == FinishReason::kStop && i + 1 == event.tokens.size()) stop_token = id;
    add_token(std::move(event.tokens[i]), !stop_token || show_stop_);
    if (!stop_token && !finish) add_hidden(id);
  }
  if (finish) {
    stopped_by_string = !event.finish;
  } else if (event.finish) {
    error = std::move(event.error);
    end(*event.finish, stop_token);
  }
  if (!finish) return;
  for (AnswerToken& token : tokens) token.text_offset = std::min(token.text_offset, characters_);  // of a stop string
}

void Choice::add_token(OutputToken&& token, bool shown) {
  ++completion_tokens;
  const int32_t id = token.token;
  if (ids_) token_ids.push_back(id);
  if (token.logprob) logprob_sum += token.logprob->logprob;
  if (logprobs_) {
    const std::string_view bytes = tokenizer_.token_bytes(id);
    // A character that stays unfinished is one of the text.
    const bool after_broken = detokenizer_.inside_character() && !bytes.empty() && (bytes[0] & 0xC0) != 0x80;
    tokens.push_back({std::move(token), characters_ + (after_broken ? 1 : 0)});
  }
  if (!shown) return;
  const std::string piece = detokenizer_.push(id);
  if (parser_ != nullptr) {
    std::vector<AnswerPiece> pieces;
    if (!piece.empty()) parser_->push(piece, pieces);
    if (tokenizer_.is_special(id)) parser_->push_control(tokenizer_.token_text(id), pieces);
    reasoning_tokens += parser_->in_reasoning() ? 1 : 0;
    return add_pieces(std::move(pieces));
  }
  characters_ += count_characters(piece);
  if (completion_tokens < min_tokens_) {
    text += piece;
  } else {
    add_text(piece);
  }
}

void Choice::add_text(std::string_view piece) { take(stops_.push(piece)); }

void Choice::add_hidden(int32_t id) {
  if (!hides_control_ || !tokenizer_.is_special(id) || completion_tokens < min_tokens_) return;
  if (parser_ != nullptr && parser_->in_reasoning()) return;
  take(stops_.push_hidden(id));
}

void Choice::take(const StopMatcher::Text& out) {
  text += out.text;
  if (!out.stopped) return;
  stop_string = stop_strings_[out.stop];
  if (show_stop_) text += *stop_string;
  finish = FinishReason::kStop;
  characters_ = taken_characters_ + count_characters(text);
}

void Choice::add_pieces(std::vector<AnswerPiece> pieces) {
  for (AnswerPiece& piece : pieces) {
    if (finish) return;
    switch (piece.kind) {
      case AnswerPiece::Kind::kContent:
        characters_ += count_characters(piece.text);
        if (completion_tokens < min_tokens_) {
          text += piece.text;
        } else {
          add_text(piece.text);
        }
        break;
      case AnswerPiece::Kind::kReasoning:
        if (show_reasoning_) reasoning += piece.text;
        break;
      case AnswerPiece::Kind::kCall:
        calls.push_back({num_calls++, random_id(call_id_prefix_, call_id_length_), std::move(piece.text), {}});
        break;
      case AnswerPiece::Kind::kArguments:
        if (calls.empty()) calls.push_back({num_calls - 1, {}, {}, {}});
        calls.back().arguments += piece.text;
        break;
    }
  }
}

void Choice::end(FinishReason reason, std::optional<int32_t> stop_token) {
  if (parser_ != nullptr) {
    std::vector<AnswerPiece> pieces;
    parser_->push(detokenizer_.finish(), pieces);
    parser_->finish(pieces);
    add_pieces(std::move(pieces));
  } else {
    add_text(detokenizer_.finish());
  }
  if (stop_token && !finish) add_hidden(*stop_token);
  if (finish) return;
  text += stops_.finish();
  finish = reason;
}

void Choice::taken() {
  taken_characters_ += count_characters(text);
  text.clear();
  reasoning.clear();
  calls.clear();
  tokens.clear();
  token_ids.clear();
  first = false;
  finish_taken_ = finish.has_value();
}

}  // namespace hearth
