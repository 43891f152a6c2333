// Answer: one API call in work, from the engine's events to the bytes of its body. The engine delivers on its thread;
// all else happens on one thread at a time, the server's I/O thread.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "api/answer_writer.h"
#include "api/choice.h"
#include "api/errors.h"
#include "base/clock.h"
#include "engine/engine.h"

namespace hearth {

// What /metrics learns of requests. Called where the answer is advanced.
class ServingObserver {
 public:
  virtual ~ServingObserver() = default;
  struct Finished {
    int64_t replica;     // that had it last
    const char* reason;  // stop, length, abort or error
    int64_t prompt_tokens, completion_tokens;
    Duration since_arrival;
    std::optional<Duration> since_scheduled;    // none: it never left the queue
    std::optional<Duration> since_first_token;  // none: it had no token
  };
  // `replica`: that generates.
  virtual void first_token(int64_t replica, Duration since_arrival) = 0;
  virtual void next_tokens(int64_t replica, Duration since_last, int64_t count) = 0;
  virtual void finished(const Finished& request) = 0;
};

class Answer : public std::enable_shared_from_this<Answer> {
 public:
  struct Options {
    std::string id;
    bool stream = false;
    bool anthropic = false;      // how an error is spelled
    int64_t n = 1, best_of = 1;  // of the best_of choices that each prompt has, n are the answer
    TimePoint arrival{0};
  };
  // `wake` may be called from any thread whenever advance() would find something new.
  Answer(Options options, std::unique_ptr<AnswerWriter> writer, const Tokenizer& tokenizer, Engine& engine,
         const Clock& clock, ServingObserver* observer, std::function<void()> wake);

  // Before the first submit: a choice and the id of its engine request.
  Choice& add_choice(const GenerationRequest& request, int64_t prompt_tokens, bool shares_prompt);
  std::string request_id(int64_t index) const;
  // The engine's thread.
  void deliver(int64_t index, RequestEvent&& event);

  enum class State { kRunning, kDone, kFailed };
  // Appends to `out` what is ready: stream chunks as server-sent events, or the whole body at the end. kFailed: nothing
  // was ever appended, error() says why; a stream that has begun carries its error itself and is kDone.
  State advance(std::string& out);
  const ApiError& error() const { return error_; }
  // The client left.
  void cancel();
  bool stream() const { return options_.stream; }
  Usage usage_of_all() const;  // so far

 private:
  struct Mail {
    int64_t index;
    TimePoint at;
    RequestEvent event;
  };
  struct Progress {  // of one choice, for the observer
    std::optional<TimePoint> scheduled, first;
    TimePoint last{0};
    bool ended = false;
    int64_t tokens = 0;
    int64_t replica = 0;
  };

  void read(Mail&& mail);
  void note_end(int64_t index, TimePoint at, const char* reason);
  void fail(const Choice& choice);
  std::vector<Choice*> best_choices();

  const Options options_;
  const std::unique_ptr<AnswerWriter> writer_;
  const Tokenizer& tokenizer_;
  Engine& engine_;
  const Clock& clock_;
  ServingObserver* const observer_;
  const std::function<void()> wake_;

  std::vector<std::unique_ptr<Choice>> choices_;
  std::vector<Progress> progress_;
  int64_t prompt_tokens_ = 0;  // each prompt once, however many choices share it
  int64_t unfinished_ = 0;
  bool begun_ = false, failed_ = false, done_ = false;
  ApiError error_;

  std::mutex mutex_;
  std::vector<Mail> mailbox_;  // bounded: each choice has at most max_tokens
  std::vector<Mail> mails_;    // of advance(): what it took out. Both keep their memory
};

}  // namespace hearth
