// Load on an OpenAI-compatible completions endpoint, and one record a request. Open loop: Poisson arrivals at a stated
// rate, latency counted from the scheduled arrival, so that neither a late client nor a server that stops accepting can
// hide. Closed loop: a stated number of requests always under way.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "bench/endpoint.h"

namespace hearth {

// What one request sends. Token ids, or text where `ids` is empty.
struct Prompt {
  std::vector<int32_t> ids;
  std::string text;
  int64_t output_tokens = 0;  // exactly so many are asked for: ignore_eos, min_tokens = max_tokens
};

struct RequestRecord {
  double due = 0;                   // seconds since the run's start
  double first = 0, last = 0;       // when the first and the last token arrived, same clock
  std::vector<double> inter_token;  // seconds between chunks that carried text
  int64_t prompt_tokens = 0, output_tokens = 0;
  std::string error;  // empty: it streamed all its tokens

  double ttft() const { return first - due; }
  double total() const { return last - due; }
  double tpot() const { return output_tokens > 1 ? (last - first) / static_cast<double>(output_tokens - 1) : 0; }
};

struct LoadOptions {
  double rate = 0;          // requests a second, open loop; 0: closed loop
  int64_t concurrency = 1;  // closed loop
  double warm_up = 4;       // seconds of load that are not counted
  double seconds = 25;      // seconds of load that are
  double request_timeout = 120;
  uint64_t seed = 7;
};

// Blocks until every request has ended. Records are those due in the counted time, in order of `due`; `make_prompt(i)`
// gives request i; `progress(done, started)` is called about four times a second.
std::vector<RequestRecord> run_load(const Endpoint& endpoint, const LoadOptions& options,
                                    const std::function<Prompt(int64_t)>& make_prompt,
                                    const std::function<void(int64_t, int64_t)>& progress);

struct ServedModel {
  std::string name;
  std::string device;  // what it runs on, where the server says it
};
// The endpoint's model as the server lists it; the first where the endpoint names none.
Result<ServedModel> served_model(const Endpoint& endpoint);

}  // namespace hearth
