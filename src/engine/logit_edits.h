// LogitEdits: what a sequence's penalties, biases and masked stop tokens do to single tokens' logits.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/request.h"
#include "engine/step_plan.h"

namespace hearth {

class LogitEdits {
 public:
  // `stops` are masked while a sequence is below its min_tokens.
  LogitEdits(const Request& request, std::span<const int32_t> stops);

  // Whether the next draw depends on the last token: such a sequence cannot be scheduled before it is known here.
  bool needs_last_token() const { return counts_generated_; }
  void count_generated(int32_t token);
  // An upper bound of what append_to adds: tokens of the vocabulary, each at most once.
  int64_t size() const { return static_cast<int64_t>(edits_.size()); }
  // Adds the edits of the plan's last row.
  void append_to(StepPlan& plan, bool mask_stops) const;

 private:
  struct Edit {
    int32_t token;
    int32_t count = 0;  // times generated; -1: only in the prompt
    float bias = 0;
    bool stop = false;
  };
  Edit& of(int32_t token);

  bool counts_generated_;
  std::vector<Edit> edits_;
  std::unordered_map<int32_t, size_t> by_token_;
};

}  // namespace hearth
