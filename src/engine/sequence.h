// Sequence: a request's state in the engine. Only the scheduler changes it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "engine/logit_edits.h"
#include "engine/mask_maker.h"
#include "engine/request.h"
#include "kv/prefix_index.h"

namespace hearth {

struct Sequence {
  Sequence(int64_t number, Request request_in, std::vector<int32_t> stops_in, int64_t context)
      : number(number),
        request(std::move(request_in)),
        stops(std::move(stops_in)),
        edits(request, stops),
        tokens(std::move(request.prompt)),
        root(PrefixIndex::root_of(request.cache_salt)),
        prompt_len(std::ssize(tokens)),
        max_len(prompt_len + std::min(request.sampling.max_tokens, std::max<int64_t>(context - prompt_len, 0))) {
    if (wants_prompt_logprobs()) prompt_logprobs.resize(static_cast<size_t>(request.sampling.prompt_logprobs_from));
  }

  const int64_t number;              // in order of arrival
  Request request;                   // without its prompt: that is in `tokens`
  const std::vector<int32_t> stops;  // tokens that end it
  LogitEdits edits;
  std::shared_ptr<NextTokens> next;  // null: it may draw any token
  NextTokens::Mask drawn_with;       // the mask of the last draw submitted
  int64_t void_step = 0;             // its draw of this step used a wrong mask and does not count

  std::vector<int32_t> tokens;   // the prompt, then what was generated and committed
  const PrefixIndex::Link root;  // the prefix cache is searched from here
  const int64_t prompt_len;
  const int64_t max_len;  // the most tokens it may have, prompt included

  // Draws submitted and not yet committed: only the device knows their tokens. The latest is row `draw_row` of step
  // `last_step`.
  int64_t draws_in_flight = 0;
  int32_t draw_row = 0;
  int64_t last_step = 0;  // the last step submitted with it

  // While it runs: its block table, and how many of its tokens are in it.
  bool running = false;
  std::vector<int32_t> blocks;
  int64_t submitted = 0;          // tokens that submitted steps compute or the prefix cache had
  int64_t published = 0;          // full blocks that are in the prefix index
  PrefixIndex::Link link = root;  // of the last published block

  // With latency targets: when the first token must come, and when it came; seconds.
  double due = std::numeric_limits<double>::infinity();
  std::optional<double> first_token;

  std::vector<std::optional<TokenLogprob>> prompt_logprobs;
  bool was_admitted = false;
  int64_t cached_tokens = 0;  // prompt tokens found in the prefix cache at first admission
  std::optional<TimePoint> first_scheduled;

  // Its tokens once every submitted step is committed.
  int64_t len() const { return std::ssize(tokens) + draws_in_flight; }
  bool wants_prompt_logprobs() const { return request.sampling.prompt_logprobs >= 0; }
  bool lacks_prompt_logprobs() const { return wants_prompt_logprobs() && std::ssize(prompt_logprobs) < prompt_len; }

  // Tokens still to compute. If a draw is to come: up to the last token, whose logits it draws from. If not: up to the
  // last token whose log-probabilities are asked for.
  int64_t tokens_left() const {
    if (len() < max_len) return len() - submitted;
    return lacks_prompt_logprobs() ? std::max<int64_t>(prompt_len - 1 - submitted, 0) : 0;
  }
  // The mask of the next draw is known, and no forced tokens come before it.
  bool mask_is_known() const { return next == nullptr || (next->ready() && next->forced.empty() && !next->dead); }
  bool waits_for_mask() const { return next != nullptr && !next->ready(); }
  // Whether the draw in flight had the right mask. A draw may be submitted before the token in front of it is known.
  // It then uses that token's own mask, in the hope that the mask stays.
  bool draw_is_right() const { return mask_is_known() && (next == nullptr || next->mask == drawn_with); }
  // The next draw needs the token in flight on the host first: for its logit edits, or because its mask likely changes.
  bool must_sit_out() const {
    if (draws_in_flight == 0) return false;
    return edits.needs_last_token() || (next != nullptr && !(draw_is_right() && next->steady));
  }
  bool is_stop(int32_t token) const { return std::ranges::find(stops, token) != stops.end(); }
};

// Who goes first: by priority, then what is due first, then by arrival.
struct GoesFirst {
  bool operator()(const Sequence* a, const Sequence* b) const {
    if (a->request.priority != b->request.priority) return a->request.priority < b->request.priority;
    if (a->due != b->due) return a->due < b->due;
    return a->number < b->number;
  }
};

}  // namespace hearth
