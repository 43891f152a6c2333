// Measures a runner's step times with steps of made-up tokens, before it serves anybody. Well under a second.
#pragma once

#include "base/clock.h"
#include "engine/runner.h"
#include "engine/step_time_model.h"

namespace hearth {

// For steps of up to `max_tokens`. Uses the KV cache freely: nothing may be in it yet.
StepTimeModel measure_step_times(Runner& runner, const Clock& clock, int64_t max_tokens);

}  // namespace hearth
