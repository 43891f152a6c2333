// The engine's thread hands answers to this one through a queue.
#include "eval/run_requests.h"

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>

namespace hearth {
namespace {

struct Ended {
  std::string id;
  EngineAnswer answer;
  Status error;
};

// What the engine's thread and this one share. It outlives the run: a cancelled request may still be told of its end.
struct Inbox {
  std::mutex mutex;
  std::condition_variable arrived;
  std::deque<Ended> ended;
};

EventSink sink_of(const std::shared_ptr<Inbox>& inbox, Engine& engine, const std::string& id,
                  const std::function<bool(const std::string&, const std::vector<int32_t>&)>& enough) {
  return [inbox, &engine, id, enough, answer = EngineAnswer{}, cancelled = false](RequestEvent&& event) mutable {
    for (OutputToken& token : event.tokens) {
      answer.tokens.push_back(token.token);
      if (token.logprob) answer.logprobs.push_back(std::move(*token.logprob));
    }
    if (!event.prompt_logprobs.empty()) answer.prompt_logprobs = std::move(event.prompt_logprobs);
    if (!event.finish) {
      if (enough && !cancelled && enough(id, answer.tokens)) engine.cancel(id), cancelled = true;
      return;
    }
    answer.cached_tokens = event.cached_tokens;
    Status error;
    if (*event.finish == FinishReason::kError) error = std::move(event.error);
    if (*event.finish == FinishReason::kCancelled && !cancelled) error = Status(Code::kCancelled, "cancelled");
    {
      const std::lock_guard lock(inbox->mutex);
      inbox->ended.push_back({id, std::move(answer), std::move(error)});
    }
    inbox->arrived.notify_one();
  };
}

}  // namespace

Status run_requests(Engine& engine, const Clock& clock, int64_t most, RequestSource source) {
  const auto inbox = std::make_shared<Inbox>();
  int64_t under_way = 0;
  Status failed;
  while (true) {
    while (failed.ok() && under_way < most) {
      auto next = source.next();
      if (!next.ok()) {
        failed = next.status();
        break;
      }
      if (!*next) break;
      Request request = std::move(**next);
      request.arrival = clock.now();
      request.on_event = sink_of(inbox, engine, request.id, source.enough);
      failed = engine.submit(std::move(request));
      if (failed.ok()) ++under_way;
    }
    if (under_way == 0) return failed;
    Ended ended;
    {
      std::unique_lock lock(inbox->mutex);
      inbox->arrived.wait(lock, [&] { return !inbox->ended.empty(); });
      ended = std::move(inbox->ended.front());
      inbox->ended.pop_front();
    }
    --under_way;
    if (failed.ok()) failed = ended.error;
    if (failed.ok()) source.answered(ended.id, std::move(ended.answer));
  }
}

}  // namespace hearth
