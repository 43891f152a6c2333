// What a request's headers ask of its times: x-request-timeout-ms, how long it may take, and llm-d's latency targets,
// x-llm-d-slo-ttft-ms and x-llm-d-slo-tpot-ms.
#pragma once

#include "api/serving.h"
#include "base/status.h"
#include "server/http.h"

namespace hearth {

// Milliseconds above 0, up to a day; else an error that names the header. An empty one is none.
Result<CallTimes> read_call_times(const HttpRequest& request, TimePoint arrival);

}  // namespace hearth
