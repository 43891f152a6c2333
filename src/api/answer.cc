// Events in, chunks out. A chunk carries what has gathered since the last one: one token in the steady state, more for
// a client that reads slowly.
#include "api/answer.h"

#include <algorithm>
#include <functional>

namespace hearth {

Answer::Answer(Options options, std::unique_ptr<AnswerWriter> writer, const Tokenizer& tokenizer, Engine& engine,
               const Clock& clock, ServingObserver* observer, std::function<void()> wake)
    : options_(std::move(options)),
      writer_(std::move(writer)),
      tokenizer_(tokenizer),
      engine_(engine),
      clock_(clock),
      observer_(observer),
      wake_(std::move(wake)) {}

Choice& Answer::add_choice(const GenerationRequest& request, int64_t prompt_tokens, bool shares_prompt) {
  const auto index = static_cast<int64_t>(choices_.size());
  choices_.push_back(std::make_unique<Choice>(tokenizer_, request, index, prompt_tokens));
  progress_.emplace_back();
  if (!shares_prompt) prompt_tokens_ += prompt_tokens;
  ++unfinished_;
  return *choices_.back();
}

std::string Answer::request_id(int64_t index) const { return cat(options_.id, "-", index); }

void Answer::deliver(int64_t index, RequestEvent&& event) {
  bool was_empty;
  {
    std::lock_guard lock(mutex_);
    was_empty = mailbox_.empty();
    mailbox_.push_back({index, clock_.now(), std::move(event)});
  }
  if (was_empty) wake_();
}

void Answer::note_end(int64_t index, TimePoint at, const char* reason) {
  Progress& p = progress_[static_cast<size_t>(index)];
  if (p.ended) return;
  p.ended = true;
  --unfinished_;
  if (observer_ == nullptr) return;
  const Choice& choice = *choices_[static_cast<size_t>(index)];
  const auto since = [at](const std::optional<TimePoint>& time) {
    return time ? std::optional(at - *time) : std::nullopt;
  };
  observer_->finished({p.replica, reason, choice.prompt_tokens, choice.completion_tokens, at - options_.arrival,
                       since(p.scheduled), since(p.first)});
}

void Answer::fail(const Choice& choice) {
  failed_ = true;
  error_ =
      to_api_error(*choice.finish == FinishReason::kError ? choice.error
                                                          : Status(Code::kUnavailable, "the server is shutting down"));
  error_.anthropic = options_.anthropic;
}

void Answer::read(Mail&& mail) {
  Choice& choice = *choices_[static_cast<size_t>(mail.index)];
  Progress& p = progress_[static_cast<size_t>(mail.index)];
  if (p.ended) return;
  p.scheduled = mail.event.first_scheduled;
  p.replica = mail.event.replica;
  if (const auto count = static_cast<int64_t>(mail.event.tokens.size()); count > 0) {
    if (observer_ != nullptr) {
      p.first ? observer_->next_tokens(p.replica, mail.at - p.last, count)
              : observer_->first_token(p.replica, mail.at - options_.arrival);
    }
    if (!p.first) p.first = mail.at;
    p.last = mail.at;
  }
  choice.consume(std::move(mail.event));
  if (choice.stopped_by_string) engine_.cancel(request_id(mail.index));
  if (!choice.finish) return;
  switch (*choice.finish) {
    case FinishReason::kStop: return note_end(mail.index, mail.at, "stop");
    case FinishReason::kLength: return note_end(mail.index, mail.at, "length");
    case FinishReason::kCancelled: note_end(mail.index, mail.at, "abort"); return fail(choice);
    case FinishReason::kError: note_end(mail.index, mail.at, "error"); return fail(choice);
  }
}

Usage Answer::usage_of_all() const {
  Usage usage{.prompt_tokens = prompt_tokens_};
  for (const auto& choice : choices_) {
    usage.completion_tokens += choice->completion_tokens;
    usage.cached_tokens += choice->cached_tokens;
    usage.reasoning_tokens += choice->reasoning_tokens;
  }
  usage.cached_tokens = std::min(usage.cached_tokens, prompt_tokens_);
  return usage;
}

Answer::State Answer::advance(std::string& out) {
  if (done_) return failed_ && !begun_ ? State::kFailed : State::kDone;
  mails_.clear();
  {
    std::lock_guard lock(mutex_);
    mails_.swap(mailbox_);
  }
  for (Mail& mail : mails_) {
    if (!failed_) read(std::move(mail));
  }
  mails_.clear();
  if (failed_) {
    cancel();  // the other choices have no reader any more
    done_ = true;
    if (!begun_) return State::kFailed;
    writer_->write_error(out, error_);
    return State::kDone;
  }
  if (options_.stream) {
    for (const auto& choice : choices_) {
      if (!choice->has_news()) continue;
      writer_->write_piece(
          out, *choice,
          {choice->prompt_tokens, choice->completion_tokens, choice->cached_tokens, choice->reasoning_tokens});
      choice->taken();
      begun_ = true;
    }
    if (unfinished_ > 0) return State::kRunning;
    writer_->write_end(out, usage_of_all());
  } else {
    if (unfinished_ > 0) return State::kRunning;
    writer_->write_whole(out, best_choices(), usage_of_all());
  }
  done_ = true;
  return State::kDone;
}

std::vector<Choice*> Answer::best_choices() {
  std::vector<Choice*> out;
  const auto per_token = [](const Choice* c) {
    return c->logprob_sum / static_cast<double>(std::max<int64_t>(c->completion_tokens, 1));
  };
  for (size_t first = 0; first < choices_.size(); first += static_cast<size_t>(options_.best_of)) {
    std::vector<Choice*> all;
    for (int64_t i = 0; i < options_.best_of; ++i) all.push_back(choices_[first + static_cast<size_t>(i)].get());
    if (options_.best_of > options_.n) std::ranges::stable_sort(all, std::greater(), per_token);
    for (int64_t i = 0; i < options_.n; ++i) {
      out.push_back(all[static_cast<size_t>(i)]);
      out.back()->index = std::ssize(out) - 1;
    }
  }
  return out;
}

void Answer::cancel() {
  const TimePoint now = clock_.now();
  for (size_t i = 0; i < choices_.size(); ++i) {
    if (progress_[i].ended) continue;
    const auto index = static_cast<int64_t>(i);
    engine_.cancel(request_id(index));
    note_end(index, now, "abort");
  }
}

}  // namespace hearth
