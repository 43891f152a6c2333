// Replicas over engines that a test drives, and the order in which they are chosen. sim/replicas_test.cc has the seeds,
// engine_test.cc the threads.
#include "engine/replicas.h"

#include <gtest/gtest.h>

namespace hearth {
namespace {

class ScriptedEngine final : public Engine {
 public:
  Status submit(Request request) override {
    if (!refusal.ok()) return refusal;
    requests.push_back(std::move(request));
    return {};
  }
  void cancel(const std::string& id) override { cancelled.push_back(id); }
  EngineStats stats() const override { return numbers; }
  std::optional<Forecast> forecast(const Request&) const override { return outlook; }
  Status health() const override { return state; }
  void drain(Duration) override {}

  Status refusal, state;
  std::optional<Forecast> outlook = Forecast{};
  EngineStats numbers;
  std::vector<Request> requests;
  std::vector<std::string> cancelled;
};

class ReplicasTest : public ::testing::Test {
 protected:
  ReplicasTest() {
    std::vector<std::unique_ptr<Engine>> engines;
    for (int i = 0; i < 3; ++i) {
      auto engine = std::make_unique<ScriptedEngine>();
      engines_.push_back(engine.get());
      engines.push_back(std::move(engine));
    }
    replicas_ = std::make_unique<Replicas>(std::move(engines), clock_);
  }

  Request request(const std::string& id, int32_t head = 1) {
    Request out;
    out.id = id;
    out.prompt.assign(300, head);
    out.on_event = [this](RequestEvent&& event) { events_.push_back(std::move(event)); };
    return out;
  }
  size_t taken_by() {
    for (size_t i = 0; i < engines_.size(); ++i) {
      if (!engines_[i]->requests.empty()) return i;
    }
    return engines_.size();
  }

  SteadyClock clock_;
  std::vector<ScriptedEngine*> engines_;
  std::vector<RequestEvent> events_;
  std::unique_ptr<Replicas> replicas_;
};

TEST(Dispatch, GoesWhereARequestEndsFirstOfThoseThatServe) {
  Request request;
  request.prompt = {1, 2, 3};
  const std::vector<std::optional<Forecast>> forecasts = {Forecast{.end = 3}, std::nullopt, Forecast{.end = 1},
                                                          Forecast{.end = 2}};
  EXPECT_EQ(dispatch_by_forecast(request, forecasts, {}), (std::vector<size_t>{2, 3, 0}));
  // A cached head is worth a wait.
  const std::vector<std::optional<Forecast>> cached = {Forecast{.end = 1, .compute = 0.5},
                                                       Forecast{.end = 1.2, .compute = 0.05}};
  EXPECT_EQ(dispatch_by_forecast(request, cached, {})[0], 1u);
}

TEST(Dispatch, IsStickyAndSpreadUnderEqualLoad) {
  const std::vector<std::optional<Forecast>> forecasts = {Forecast{.end = 1.01}, Forecast{.end = 1},
                                                          Forecast{.end = 1.02}, Forecast{.end = 1}};
  std::vector<int64_t> first(4);
  for (int32_t head = 0; head < 400; ++head) {
    Request request;
    request.prompt.assign(1000, head);
    const auto order = dispatch_by_forecast(request, forecasts, {});
    ++first[order[0]];
    request.prompt.back() = -1;  // another tail
    EXPECT_EQ(dispatch_by_forecast(request, forecasts, {}), order);
    auto without = forecasts;
    without[order[3]] = std::nullopt;  // the loss of another changes nothing
    EXPECT_EQ(dispatch_by_forecast(request, without, {})[0], order[0]);
  }
  for (const int64_t count : first) EXPECT_NEAR(count, 100, 40);
}

TEST_F(ReplicasTest, AnIdIsInUseOnAllOfThem) {
  ASSERT_TRUE(replicas_->submit(request("a")).ok());
  EXPECT_EQ(replicas_->submit(request("a")).code(), Code::kInvalidArgument);
  const size_t by = taken_by();
  replicas_->cancel("a");
  replicas_->cancel("unknown");
  for (size_t i = 0; i < engines_.size(); ++i) EXPECT_EQ(engines_[i]->cancelled.size(), i == by ? 1u : 0u);
  engines_[by]->requests[0].on_event({.finish = FinishReason::kCancelled});
  ASSERT_EQ(events_.size(), 1u);
  EXPECT_EQ(events_[0].replica, static_cast<int64_t>(by));
  EXPECT_TRUE(replicas_->submit(request("a")).ok());
}

TEST_F(ReplicasTest, WhatOneRefusesForItsTargetAnotherMayTake) {
  for (size_t i = 0; i < 3; ++i) engines_[i]->outlook = Forecast{.end = static_cast<double>(i + 1)};
  const auto late = [](int64_t seconds) { return Status(Code::kDeadlineExceeded, "late").with_retry_after(seconds); };
  engines_[0]->refusal = late(5);
  engines_[0]->numbers.latency_refusals = 1;
  ASSERT_TRUE(replicas_->submit(request("a")).ok());
  EXPECT_EQ(taken_by(), 1u);
  EXPECT_EQ(replicas_->stats().latency_refusals, 0) << "nobody was refused";
  engines_[1]->refusal = late(2);
  engines_[2]->refusal = late(7);
  for (ScriptedEngine* engine : engines_) ++engine->numbers.latency_refusals;
  const Status refused = replicas_->submit(request("b"));
  EXPECT_EQ(refused.code(), Code::kDeadlineExceeded);
  EXPECT_EQ(refused.retry_after_seconds(), 2) << "the soonest";
  EXPECT_EQ(replicas_->stats().latency_refusals, 1) << "one request, however many replicas were asked";
  EXPECT_TRUE(events_.empty());
}

TEST_F(ReplicasTest, RetryAfterAFullQueueIsTheShortestWait) {
  for (size_t i = 0; i < 3; ++i) {
    engines_[i]->outlook = Forecast{.wait = 3.2 + static_cast<double>(i), .end = 9};
    engines_[i]->refusal = Status(Code::kResourceExhausted, "the queue is full");
  }
  const Status refused = replicas_->submit(request("a"));
  EXPECT_EQ(refused.code(), Code::kResourceExhausted);
  EXPECT_EQ(refused.retry_after_seconds(), 4);
}

TEST_F(ReplicasTest, AFailedReplicasRequestsGoOnElsewhereOnce) {
  ASSERT_TRUE(replicas_->submit(request("a")).ok());
  size_t by = taken_by();
  const auto fail = [&](size_t i) {
    RequestEvent event;
    event.finish = FinishReason::kError;
    event.error = internal_error("gone");
    event.device_failed = true;
    const auto sink = engines_[i]->requests[0].on_event;
    engines_[i]->requests.clear();
    sink(std::move(event));
    engines_[i]->state = internal_error("gone");  // an engine knows only when all have been told
  };
  const auto tokens = [](std::vector<int32_t> ids) {
    RequestEvent event;
    for (const int32_t id : ids) event.tokens.push_back({id, {}});
    return event;
  };
  engines_[by]->requests[0].on_event(tokens({5, 6}));
  fail(by);
  EXPECT_TRUE(replicas_->health().ok()) << "two serve on";
  by = taken_by();
  ASSERT_LT(by, 3u);
  EXPECT_TRUE(engines_[by]->requests[0].was_taken);
  EXPECT_EQ(engines_[by]->requests[0].prompt.size(), 300u);
  engines_[by]->requests[0].on_event(tokens({5}));
  engines_[by]->requests[0].on_event(tokens({6, 7}));
  ASSERT_EQ(events_.size(), 2u);
  ASSERT_EQ(events_[1].tokens.size(), 1u);
  EXPECT_EQ(events_[1].tokens[0].token, 7) << "what the caller has is not said again";
  fail(by);  // perhaps the request is the reason: the third is not tried
  EXPECT_EQ(taken_by(), 3u);
  ASSERT_TRUE(events_.back().finish.has_value());
  EXPECT_EQ(events_.back().error.code(), Code::kInternal);
  const auto health = replicas_->replica_health();
  EXPECT_EQ(std::ranges::count_if(health, &Status::ok), 1);
}

TEST_F(ReplicasTest, RefusesWhileDrainingAndWhenAllFailed) {
  for (ScriptedEngine* engine : engines_) {
    engine->state = internal_error("gone");
    engine->outlook.reset();
  }
  EXPECT_FALSE(replicas_->health().ok());
  EXPECT_EQ(replicas_->submit(request("a")).code(), Code::kUnavailable);
  replicas_->drain(Duration::zero());
  EXPECT_EQ(replicas_->submit(request("a")).code(), Code::kUnavailable);
}

}  // namespace
}  // namespace hearth
