// run_requests: many requests through an engine, a bounded number of them at a time.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "engine/engine.h"

namespace hearth {

// What a request got. An error ends the run, so there is none in here.
struct EngineAnswer {
  std::vector<int32_t> tokens;
  std::vector<TokenLogprob> logprobs;  // of the tokens, where they were asked for
  std::vector<std::optional<TokenLogprob>> prompt_logprobs;
  int64_t cached_tokens = 0;
};

struct RequestSource {
  // The next request, its id unique in the run; none: there is none now. After the last answer, none ends the run.
  std::function<Result<std::optional<Request>>()> next;
  // An answer, by the request's id. May make next() have more.
  std::function<void(const std::string& id, EngineAnswer&& answer)> answered;
  // Whether a request that has generated these tokens has enough; on the engine's thread. Empty: never.
  std::function<bool(const std::string& id, const std::vector<int32_t>& tokens)> enough = {};
};

// Calls next() and answered() on this thread. `most` requests are under way at a time.
Status run_requests(Engine& engine, const Clock& clock, int64_t most, RequestSource source);

}  // namespace hearth
