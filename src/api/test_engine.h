// For tests: an engine that says its prompt again and again, a token at a time, and a tokenizer with a token per byte.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "api/serving.h"
#include "engine/engine.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace hearth {

constexpr int32_t kTestEnd = 256;         // "<|end|>", a control token
constexpr int32_t kTestVocabulary = 258;  // 257 is " the"

inline std::unique_ptr<Tokenizer> make_test_tokenizer() {
  Vocabulary v;
  v.model = "gpt2";
  v.pre = "gpt-2";
  // GPT-2 spells the bytes that do not print as the characters from U+0100 on.
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool prints = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
    append_utf8(v.tokens.emplace_back(), prints ? static_cast<char32_t>(byte) : next++);
  }
  v.tokens.push_back("<|end|>");
  v.tokens.push_back("\u0120the");
  v.types.assign(v.tokens.size(), 1);
  v.types[kTestEnd] = 3;
  v.eos = kTestEnd;
  auto made = Tokenizer::from_vocabulary(v);
  HEARTH_CHECK(made.ok());
  return std::move(made).value();
}

// Renders nothing but the messages' contents.
inline ChatTemplate make_test_template() {
  auto made = ChatTemplate::parse("{% for message in messages %}{{ message.content }}{% endfor %}");
  HEARTH_CHECK(made.ok());
  return std::move(made).value();
}

class TestEngine final : public Engine {
 public:
  // A request ends with an error after so many tokens; a pause between tokens; submit fails after so many requests.
  struct Options {
    Duration pause{0};
    int64_t fail_after = INT64_MAX;
    int64_t room = INT64_MAX;
    Status refusal;              // of every submit
    bool out_of_memory = false;  // every submit after the first fails so
    bool keeps_record = true;    // of what was submitted
  };
  explicit TestEngine(Options options) : options_(options), thread_([this] { run(); }) {}
  ~TestEngine() override {
    {
      std::lock_guard lock(mutex_);
      ended_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  Status submit(Request request) override {
    std::lock_guard lock(mutex_);
    if (draining_) return Status(Code::kUnavailable, "draining");
    if (!options_.refusal.ok()) return options_.refusal;
    if (options_.out_of_memory && !submitted_.empty()) throw std::bad_alloc();
    if (static_cast<int64_t>(submitted_.size()) >= options_.room) return Status(Code::kResourceExhausted, "queue full");
    if (options_.keeps_record) {
      CallTimes& times = times_.emplace_back(request.arrival);
      times.deadline = request.deadline;
      times.targets = request.targets;
      submitted_.push_back(request.sampling);
      ids_.push_back(request.id);
    }
    running_.push_back({std::move(request), 0});
    changed_.notify_all();
    return {};
  }
  void cancel(const std::string& id) override {
    std::lock_guard lock(mutex_);
    const auto has_id = [&](const Running& r) { return r.request.id == id; };
    if (!options_.keeps_record && std::none_of(running_.begin(), running_.end(), has_id)) return;
    cancelled_.push_back(id);
    changed_.notify_all();
  }
  EngineStats stats() const override {
    std::lock_guard lock(mutex_);
    EngineStats out;
    out.running = static_cast<int64_t>(running_.size());
    out.waiting = waiting;
    out.queue_is_full = waiting >= 10;
    out.blocks_total = 100;
    out.blocks_used = 25;
    out.tokens_per_step = {{1, 3}, {8, 2}};
    out.latency_refusals = 3;
    out.step_time_errors = {{2, 7}};
    out.device_busy_seconds = 12.5;
    out.device_idle_seconds = 0.125;
    return out;
  }
  Status health() const override { return {}; }
  void drain(Duration timeout) override {
    std::unique_lock lock(mutex_);
    draining_ = true;
    const auto empty = [this] { return running_.empty(); };
    if (changed_.wait_for(lock, timeout, empty)) return;
    for (const Running& r : running_) cancelled_.push_back(r.request.id);
    changed_.notify_all();
    changed_.wait(lock, empty);
  }

  std::vector<SamplingParams> submitted() const {
    std::lock_guard lock(mutex_);
    return submitted_;
  }
  std::vector<CallTimes> times() const {
    std::lock_guard lock(mutex_);
    return times_;
  }
  std::vector<std::string> submitted_ids() const {
    std::lock_guard lock(mutex_);
    return ids_;
  }
  std::vector<std::string> cancelled() const {
    std::lock_guard lock(mutex_);
    return cancelled_;
  }
  std::atomic<int64_t> waiting = 0;

  // What it says of a token; the same token has the same wherever it stands.
  static TokenLogprob logprob_of(int32_t token, int32_t top) {
    TokenLogprob out{token, -0.1f - 0.001f * static_cast<float>(token), 1, {}};
    for (int32_t i = 0; i < top; ++i) out.top.emplace_back((token + i) % 256, out.logprob - static_cast<float>(i));
    return out;
  }

 private:
  struct Running {
    Request request;
    int64_t made;
  };

  RequestEvent next(Running& r) {
    RequestEvent event;
    event.first_scheduled = r.request.arrival;
    const SamplingParams& s = r.request.sampling;
    const auto& prompt = r.request.prompt;
    if (std::find(cancelled_.begin(), cancelled_.end(), r.request.id) != cancelled_.end()) {
      event.finish = FinishReason::kCancelled;
      return event;
    }
    if (r.made >= options_.fail_after) {
      event.finish = FinishReason::kError;
      event.error = internal_error("the logits are not numbers");
      return event;
    }
    if (r.made == 0 && s.prompt_logprobs >= 0) {
      event.prompt_logprobs.resize(prompt.size());
      for (size_t i = 1; i < prompt.size(); ++i) event.prompt_logprobs[i] = logprob_of(prompt[i], s.prompt_logprobs);
    }
    if (s.max_tokens == 0) {
      event.finish = FinishReason::kLength;
      return event;
    }
    OutputToken out{prompt[static_cast<size_t>(r.made++) % prompt.size()], std::nullopt};
    if (s.logprobs >= 0) out.logprob = logprob_of(out.token, s.logprobs);
    const bool is_stop =
        std::find(s.stop_token_ids.begin(), s.stop_token_ids.end(), out.token) != s.stop_token_ids.end();
    if (is_stop || (out.token == kTestEnd && !s.ignore_eos)) {
      event.finish = FinishReason::kStop;
    } else if (r.made >= s.max_tokens) {
      event.finish = FinishReason::kLength;
    }
    event.tokens.push_back(std::move(out));
    return event;
  }

  void run() {
    std::unique_lock lock(mutex_);
    while (!ended_) {
      for (size_t i = 0; i < running_.size();) {
        RequestEvent event = next(running_[i]);
        const bool last = event.finish.has_value();
        const EventSink sink = running_[i].request.on_event;
        if (last) {
          if (!options_.keeps_record) std::erase(cancelled_, running_[i].request.id);
          running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(i));
        } else {
          ++i;
        }
        lock.unlock();
        sink(std::move(event));
        lock.lock();
      }
      changed_.notify_all();
      if (running_.empty()) {
        changed_.wait(lock, [this] { return ended_ || !running_.empty(); });
      } else if (options_.pause.count() > 0) {
        changed_.wait_for(lock, options_.pause);
      }
    }
  }

  const Options options_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Running> running_;
  std::vector<SamplingParams> submitted_;
  std::vector<CallTimes> times_;
  std::vector<std::string> ids_, cancelled_;
  bool draining_ = false, ended_ = false;
  std::thread thread_;
};

}  // namespace hearth
