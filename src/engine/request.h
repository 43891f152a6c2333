// Request: what a caller asks of the engine, in tokens, fully validated; and the events it gets back.
#pragma once

#include <boost/container/small_vector.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "grammar/constraint.h"

namespace hearth {

struct SamplingParams {
  float temperature = 1.0f;
  float top_p = 1.0f;
  float min_p = 0.0f;
  int32_t top_k = 0;  // 0: all
  float frequency_penalty = 0.0f, presence_penalty = 0.0f, repetition_penalty = 1.0f;
  uint64_t seed = 0;  // always set: the API layer draws one where the client gave none
  std::vector<std::pair<int32_t, float>> logit_bias;
  int32_t logprobs = -1;         // -1: none; n >= 0: of the sampled token and the n most likely
  int32_t prompt_logprobs = -1;  // likewise for every prompt token but the first
  // The first prompt token whose log-probability is wanted; entries before it stay empty. What stands before it may
  // come from the prefix cache.
  int64_t prompt_logprobs_from = 1;
  int64_t max_tokens = 16;  // fewer where the context ends first; 0: prompt_logprobs only
  int64_t min_tokens = 0;   // end and stop tokens are masked until so many were generated
  std::vector<int32_t> stop_token_ids;
  bool ignore_eos = false;  // the model's end tokens do not stop it; a grammar that says where to end does
};

enum class FinishReason { kStop, kLength, kCancelled, kError };

struct TokenLogprob {
  int32_t token = -1;
  float logprob = 0;
  int32_t rank = 0;                            // 1: the most likely
  std::vector<std::pair<int32_t, float>> top;  // most likely first; always holds the arg-max where n >= 1
  bool operator==(const TokenLogprob&) const = default;
};

struct OutputToken {
  int32_t token = -1;
  std::optional<TokenLogprob> logprob;
  bool operator==(const OutputToken&) const = default;
};

// One message to the caller: some new tokens, perhaps the end. Called on the engine's thread: it must return at once,
// not throw.
struct RequestEvent {
  // In order; a stop token is among them, the caller hides it. One needs no memory of its own.
  boost::container::small_vector<OutputToken, 1> tokens;
  std::vector<std::optional<TokenLogprob>> prompt_logprobs;  // once, with or before the first token; entry 0 is empty
  std::optional<FinishReason> finish;                        // the last event of a request has it
  Status error;                                              // with kError
  bool device_failed = false;                                // likewise: the request was not the reason
  int64_t replica = 0;                                       // whose event it is
  int64_t cached_tokens = 0;                 // prompt tokens found in the prefix cache; with the last event
  std::optional<TimePoint> first_scheduled;  // when it left the queue; none: it has not
};
using EventSink = std::function<void(RequestEvent&&)>;

// Promises about a request's times, in seconds; 0: none.
struct LatencyTargets {
  double ttft = 0;     // from arrival to the first token
  double tpot = 0;     // a token after the first, on average over the request
  double latency = 0;  // from arrival to the last token
  bool any() const { return ttft > 0 || tpot > 0 || latency > 0; }
};

struct Request {
  std::string id;               // unique among live requests
  std::vector<int32_t> prompt;  // not empty, every id within the vocabulary
  SamplingParams sampling;
  std::shared_ptr<const Grammar> grammar;  // what may be generated; null: anything
  TimePoint arrival{0};
  std::optional<TimePoint> deadline;  // past it the request is refused or ended with kTimedOut
  LatencyTargets targets;  // its own, in place of the engine's; 0: the engine's. Kept where the engine keeps targets
  std::string cache_salt;  // prompts share cached blocks with those of the same salt alone
  bool was_taken = false;  // by an engine that failed: neither a full queue nor a latency target refuses it
  int32_t priority = 0;    // lower goes first; equals in order of arrival
  EventSink on_event;
};

}  // namespace hearth
