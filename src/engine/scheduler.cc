// Scheduler: continuous batching over one token budget a step.
#include "engine/scheduler.h"

#include <bit>

#include "base/checked.h"

namespace hearth {

namespace {

int32_t narrow(int64_t value) { return static_cast<int32_t>(value); }

EngineOptions completed(EngineOptions options, const RunnerLimits& limits) {
  if (options.mask_maker == nullptr) options.mask_maker = std::make_shared<MaskMaker>();
  if (options.num_blocks == 0) options.num_blocks = limits.num_blocks;
  if (options.vocab_size == 0) options.vocab_size = limits.vocab_size;
  if (options.max_model_len == 0) options.max_model_len = limits.max_model_len;
  HEARTH_CHECK(options.num_blocks > 0 && options.num_blocks <= limits.num_blocks);
  HEARTH_CHECK(options.vocab_size <= limits.vocab_size && options.max_model_len <= limits.max_model_len);
  HEARTH_CHECK(options.max_num_seqs > 0 && options.max_num_seqs <= limits.max_sequences);
  HEARTH_CHECK(options.max_num_batched_tokens > 0 && options.max_num_batched_tokens <= limits.max_tokens);
  HEARTH_CHECK(options.max_logprobs <= limits.max_logprobs);
  HEARTH_CHECK(limits.max_logits >= options.max_num_seqs && limits.max_edits >= options.vocab_size);
  HEARTH_CHECK(limits.max_prompt_blocks == 0 ||
               limits.max_prompt_blocks >= ceil_div(options.max_model_len, limits.block_size));
  return options;
}

// What a request holds while it waits: prompt and lists, copies of them, and the caller's side of it.
int64_t queue_bytes(const SamplingParams& sampling, int64_t prompt_len) {
  constexpr int64_t kRequest = 4096, kToken = 8;
  return kRequest + kToken * (prompt_len + 2 * std::ssize(sampling.logit_bias) + std::ssize(sampling.stop_token_ids));
}

}  // namespace

Scheduler::Scheduler(const EngineOptions& options, const RunnerLimits& limits, std::optional<StepTimeModel> step_times)
    : options_(completed(options, limits)),
      limits_(limits),
      // What the pool can hold bounds a sequence too: so the first in line can always run, alone if need be.
      context_(std::min(options_.max_model_len, options_.num_blocks * limits.block_size)),
      index_(options_.num_blocks, limits.block_size, options_.prefix_mode, options_.kv_events.get()),
      pool_(options_.num_blocks, options_.prefix_cache ? &index_ : nullptr),
      queue_(options_.queue ? options_.queue : std::make_shared<RequestQueue>()) {
  HEARTH_CHECK(step_times || !options_.keeps_targets());
  if (!step_times) return;
  const LatencyPolicy::Limits step{options_.max_num_batched_tokens, options_.max_num_seqs};
  latency_.emplace(options_.targets, step, *std::move(step_times), options_.keeps_targets());
}

Status Scheduler::accept(const Request& request, TimePoint now) {
  const SamplingParams& sampling = request.sampling;
  const int64_t prompt_len = std::ssize(request.prompt);
  auto in_vocab = [&](int32_t token) { return token >= 0 && token < options_.vocab_size; };
  if (prompt_len == 0) return invalid("the prompt is empty").with_param("prompt");
  if (prompt_len + (sampling.max_tokens > 0 ? 1 : 0) > context_) {
    return invalid("the prompt has ", prompt_len, " tokens, and the context ends at ", context_).with_param("prompt");
  }
  if (!std::ranges::all_of(request.prompt, in_vocab)) {
    return invalid("a prompt token is not in the vocabulary").with_param("prompt");
  }
  for (const auto& [token, bias] : sampling.logit_bias) {
    if (!in_vocab(token)) return invalid("a token is not in the vocabulary").with_param("logit_bias");
  }
  if (!std::ranges::all_of(sampling.stop_token_ids, in_vocab)) {
    return invalid("a token is not in the vocabulary").with_param("stop_token_ids");
  }
  if (sampling.logprobs > options_.max_logprobs || sampling.prompt_logprobs > options_.max_logprobs) {
    return invalid("at most ", options_.max_logprobs, " log-probabilities a token").with_param("logprobs");
  }
  if (sampling.prompt_logprobs >= 0 &&
      (sampling.prompt_logprobs_from < 1 || sampling.prompt_logprobs_from > prompt_len)) {
    return invalid("not a place in the prompt").with_param("prompt_logprobs_from");
  }
  if (sampling.max_tokens < 0) return invalid("negative").with_param("max_tokens");
  if (request.deadline && now >= *request.deadline) {
    return Status(Code::kTimedOut, "the time that the request gave itself is up");
  }
  const int64_t bytes = queue_bytes(sampling, prompt_len);
  HEARTH_TRY(join_queue(bytes, request.was_taken));
  Status status;
  if (latency_) status = latency_->accept(request, std::min(sampling.max_tokens, context_ - prompt_len), now);
  if (!status.ok()) {
    --queue_->requests;
    queue_->bytes -= bytes;
  }
  return status;
}

std::optional<Forecast> Scheduler::forecast(const Request& request, TimePoint now) const {
  if (!latency_) return std::nullopt;
  const int64_t prompt_len = std::ssize(request.prompt);
  int64_t reusable = prompt_len - 1;
  if (request.sampling.prompt_logprobs >= 0) reusable = std::min(reusable, request.sampling.prompt_logprobs_from - 1);
  int64_t cached = 0;
  if (options_.prefix_cache && reusable > 0) {
    const auto head = std::span(request.prompt).first(static_cast<size_t>(reusable));
    cached = index_.cached(PrefixIndex::root_of(request.cache_salt), head);
  }
  const int64_t most = std::min(request.sampling.max_tokens, context_ - prompt_len);
  return latency_->forecast(request, cached, std::max<int64_t>(most, 0), now);
}

void Scheduler::withdraw(const Request& request) {
  --queue_->requests;
  queue_->bytes -= queue_bytes(request.sampling, std::ssize(request.prompt));
}

bool Scheduler::queue_is_full() const {
  return queue_->requests >= options_.max_num_queued_requests || queue_->bytes >= options_.max_queue_bytes;
}

Status Scheduler::join_queue(int64_t bytes, bool surely) {
  const int64_t before = queue_->requests++, bytes_before = queue_->bytes.fetch_add(bytes);
  if (surely || before == 0 ||
      (before < options_.max_num_queued_requests && bytes_before <= options_.max_queue_bytes - bytes)) {
    return {};
  }
  --queue_->requests;
  queue_->bytes -= bytes;
  return Status(Code::kResourceExhausted, "the queue is full");
}

void Scheduler::add(Request request) {
  std::vector<int32_t> stops = request.sampling.stop_token_ids;
  const bool grammar_ends = request.grammar && request.grammar->says_where_to_end();
  if (!request.sampling.ignore_eos || grammar_ends)
    stops.insert(stops.end(), options_.end_tokens.begin(), options_.end_tokens.end());
  auto owner = std::make_unique<Sequence>(++last_number_, std::move(request), std::move(stops), context_);
  Sequence& sequence = *owner;
  if (latency_) {
    sequence.due = latency_->due(sequence.request, sequence.max_len - sequence.prompt_len);
    latency_->joined();
    first_token_targets_ += latency_->own_targets(sequence.request).ttft > 0 ? 1 : 0;
  }
  if (sequence.request.grammar) {
    sequence.next = std::make_shared<NextTokens>(sequence.request.grammar->start(), limits_.vocab_size, sequence.stops,
                                                 sequence.request.sampling.logprobs < 0);
    options_.mask_maker->begin(sequence.next);
    ++constrained_;
  }
  sequences_.emplace(sequence.number, std::move(owner));
  const bool is_new = by_id_.try_emplace(sequence.request.id, &sequence).second;
  waiting_.insert(&sequence);
  if (!is_new) {
    finish(sequence, FinishReason::kError, invalid("a live request has this id").with_param("request_id"));
  } else if (sequence.max_len == sequence.prompt_len && sequence.tokens_left() == 0) {
    finish(sequence, FinishReason::kLength, {}, {.prompt_logprobs = sequence.prompt_logprobs});
  }
}

void Scheduler::cancel(const std::string& id) {
  if (const auto it = by_id_.find(id); it != by_id_.end()) finish(*it->second, FinishReason::kCancelled);
}

void Scheduler::expire(TimePoint now) {
  std::vector<Sequence*> late;
  for (const auto& [number, sequence] : sequences_) {
    if (sequence->request.deadline && now >= *sequence->request.deadline) late.push_back(sequence.get());
  }
  for (Sequence* sequence : late) {
    finish(*sequence, FinishReason::kError, Status(Code::kTimedOut, "the time that the request gave itself is up"));
  }
}

void Scheduler::fail_all(const Status& error) {
  while (!sequences_.empty()) {
    RequestEvent event;
    event.device_failed = true;
    finish(*sequences_.begin()->second, FinishReason::kError, error, std::move(event));
  }
}

// How many tokens the next step may compute.
int64_t Scheduler::token_budget(TimePoint now) const {
  return latency_ ? latency_->token_budget(progress_of_running(), now) : options_.max_num_batched_tokens;
}

// How many prompt tokens, of `budget`, join `readers` in a step, who have one token to go. Where arithmetic is the
// limit the time of a step grows faster than its tokens, and all readers wait for its end: so prompts do not fill one
// step and leave the next one empty, but are spread over steps of three quarters of the size and more, the larger the
// more prompt tokens wait. First tokens come later for it: so not where they have a target, and not for a few readers.
int64_t Scheduler::prompt_budget(int64_t budget, int64_t readers) const {
  constexpr int64_t kFewReaders = 4, kSteps = 4, kLeast = 128;
  if (readers <= kFewReaders || options_.targets.ttft > 0 || first_token_targets_ > 0) return budget;
  int64_t backlog = 0;
  const auto add = [&](const Sequence* sequence) {
    if (sequence->tokens_left() > 1) backlog += sequence->tokens_left();
    return backlog < kSteps * budget;
  };
  if (std::ranges::all_of(running_, add)) std::ranges::all_of(waiting_, add);
  const int64_t share = std::max({options_.max_num_batched_tokens * 3 / 4 - readers, backlog / kSteps, kLeast});
  return backlog <= share + share / 8 ? budget : std::min(budget, share);  // no step for a few tokens more
}

Progress Scheduler::progress(const Sequence& sequence) const {
  Progress out;
  out.arrival = seconds(sequence.request.arrival);
  out.first_token = sequence.first_token;
  out.computed = sequence.submitted;
  out.to_compute = sequence.tokens_left();
  if (!sequence.was_admitted) out.to_compute = latency_->expected_prompt(out.to_compute);
  out.generated = sequence.len() - sequence.prompt_len;
  if (out.to_compute > 0) {
    out.output_left =
        latency_->expected_output(sequence.request.sampling, out.generated, sequence.max_len - sequence.prompt_len);
  }
  const int64_t blocks = sequence.running ? std::ssize(sequence.blocks) : ceil_div(sequence.len(), limits_.block_size);
  out.cache_tokens = blocks * limits_.block_size;
  out.due = sequence.due;
  out.own = latency_->own_targets(sequence.request);
  out.priority = sequence.request.priority;
  return out;
}

std::vector<Progress> Scheduler::progress_of_running() const {
  std::vector<Progress> out;
  out.reserve(running_.size());
  for (const Sequence* sequence : running_) out.push_back(progress(*sequence));
  return out;
}

void Scheduler::publish_outlook(TimePoint now) {
  if (!latency_) return;
  Outlook outlook;
  outlook.running = progress_of_running();
  for (const Sequence* sequence : waiting_) outlook.waiting.push_back(progress(*sequence));
  outlook.cache_room = pool_.available() * limits_.block_size;
  latency_->publish(std::move(outlook), now);
}

bool Scheduler::waits_for_mask() const {
  const auto waits = [](const Sequence* sequence) { return sequence->waits_for_mask(); };
  return std::ranges::any_of(running_, waits) || (!waiting_.empty() && waits(*waiting_.begin()));
}

// A draw in flight whose mask turns out to be another is taken back. What grammars leave no choice about comes without
// a draw. Sequences whose grammar has nothing more to give end.
void Scheduler::take_masks() {
  if (constrained_ == 0) return;
  std::vector<Sequence*> due;
  for (const auto& [number, sequence] : sequences_) {
    const auto& next = sequence->next;
    if (next == nullptr || !next->ready()) continue;
    if (sequence->draws_in_flight > 0 && !sequence->draw_is_right()) take_back_draw(*sequence);
    if (sequence->len() < sequence->max_len && (next->dead || !next->forced.empty())) due.push_back(sequence.get());
  }
  for (Sequence* sequence : due) append_forced(*sequence);
}

// The draw in flight counts for nothing: the last token is computed again, to be drawn from with the right mask.
void Scheduler::take_back_draw(Sequence& sequence) {
  HEARTH_CHECK(sequence.draws_in_flight == 1);
  sequence.draws_in_flight = 0;
  sequence.void_step = sequence.last_step;
  if (sequence.running) --sequence.submitted;
  ++stats_.draws_taken_back;
}

void Scheduler::append_forced(Sequence& sequence) {
  const std::vector<int32_t> forced = std::exchange(sequence.next->forced, {});
  RequestEvent event;
  event.first_scheduled = sequence.first_scheduled;
  std::optional<FinishReason> reason;
  for (size_t i = 0; i < forced.size() && !reason; ++i) {
    sequence.tokens.push_back(forced[i]);
    sequence.edits.count_generated(forced[i]);
    event.tokens.push_back({forced[i]});
    ++stats_.generation_tokens;
    if (sequence.is_stop(forced[i])) {
      reason = FinishReason::kStop;
    } else if (std::ssize(sequence.tokens) == sequence.max_len) {
      reason = FinishReason::kLength;
    }
  }
  Status error;
  if (!reason && sequence.next->dead) {
    reason = FinishReason::kError;
    constexpr std::string_view kWhy = "the grammar leaves no token that could come next";
    error = sequence.request.grammar->may_run_dry() ? invalid(kWhy, ": bad_words or allowed_token_ids forbid them all")
                                                    : internal_error(kWhy);
  }
  if (reason) {
    finish(sequence, *reason, std::move(error), std::move(event));
  } else {
    sequence.request.on_event(std::move(event));
  }
}

const StepPlan* Scheduler::schedule(TimePoint now) {
  HEARTH_CHECK(in_flight_.size() < 2);
  take_masks();
  StepPlan plan = std::exchange(spare_plan_, {});
  plan.step = last_step_ + 1;
  int64_t budget = token_budget(now);
  const int64_t preemptions = stats_.preemptions;

  // Whoever has one token to go costs little and has a reader waiting; prompts share what is left.
  const int64_t readers = std::ranges::count_if(running_, [](const Sequence* s) { return s->tokens_left() == 1; });
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence& sequence = *running_[i];
    const bool ahead = goes_ahead(sequence);
    // Tokens that a grammar forced come several at a time: they are computed with the prompts, but find room here,
    // where those that could lose their blocks to them are not in the step yet.
    if ((!ahead && has_room(sequence)) || sequence.must_sit_out() || budget <= 0) continue;
    if (grow(sequence) && ahead) budget -= append(plan, sequence, budget);
  }
  budget = prompt_budget(budget, readers);
  const auto append_prompt = [&](Sequence& sequence) {
    const int64_t added = append(plan, sequence, budget);
    if (added > 0 && !sequence.first_scheduled) sequence.first_scheduled = now;
    budget -= added;
    return added > 0;
  };
  for (Sequence* sequence : running_) {
    if (!goes_ahead(*sequence)) append_prompt(*sequence);
  }
  while (budget > 0 && !waiting_.empty() && std::ssize(running_) < options_.max_num_seqs &&
         stats_.preemptions == preemptions) {
    Sequence& sequence = **waiting_.begin();
    if (!admit(sequence)) break;
    if (!append_prompt(sequence)) break;  // something else of the step is used up
  }

  if (plan.sequences.empty()) {
    publish_outlook(now);
    return nullptr;
  }
  last_step_ = plan.step;
  ++stats_.steps;
  stats_.step_tokens += plan.num_tokens();
  ++stats_.tokens_per_step[static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(plan.num_tokens())))];
  if (latency_) latency_->submitted(plan, now);
  in_flight_.push_back(std::move(plan));
  return &in_flight_.back();
}

// Whoever has one token to go is before those that have more. But where a step holds only so many blocks of prompts,
// these go in order, so that the first finds room for all of it and none waits forever.
bool Scheduler::goes_ahead(const Sequence& sequence) const {
  return sequence.tokens_left() == 1 && (limits_.max_prompt_blocks == 0 || sequence.submitted >= sequence.prompt_len);
}

bool Scheduler::has_room(const Sequence& sequence) const {
  return sequence.len() <= std::ssize(sequence.blocks) * limits_.block_size;
}

// Room for all its tokens. False when there is none before a commit; the sequence itself may have been preempted.
bool Scheduler::grow(Sequence& sequence) {
  while (!has_room(sequence)) {
    while (pool_.available() == 0) {
      if (!retired_.empty()) return false;  // blocks are on their way back
      Sequence& last = *running_.back();
      preempt(last);
      if (&last == &sequence) return false;
    }
    sequence.blocks.push_back(pool_.allocate());
  }
  return true;
}

// Takes all blocks that the sequence's known tokens need, as many as possible from the prefix cache.
bool Scheduler::admit(Sequence& sequence) {
  HEARTH_CHECK(!in_flight(sequence));  // a step that preempts admits nobody, and the next one follows a commit
  const int64_t size = limits_.block_size;
  int64_t reusable = sequence.len() - 1;
  if (sequence.lacks_prompt_logprobs()) reusable = std::min(reusable, std::ssize(sequence.prompt_logprobs) - 1);

  std::vector<int32_t> matched;
  PrefixIndex::Link link = sequence.root;
  int64_t unused = 0;  // of the matched blocks: those that count as available until they are taken
  for (int64_t begin = 0; options_.prefix_cache && begin + size <= reusable; begin += size) {
    const auto tokens = std::span(sequence.tokens).subspan(begin, size);
    const auto hit = index_.find(link, tokens, std::clamp<int64_t>(sequence.prompt_len - begin, 0, size));
    if (!hit) break;
    matched.push_back(hit->block);
    link = hit->link;
    if (pool_.users(hit->block) == 0) ++unused;
  }
  const int64_t fresh = ceil_div(sequence.len(), size) - std::ssize(matched);
  // A block is left for each running sequence to grow into: to admit what is preempted at once helps nobody.
  if (fresh + unused + std::ssize(running_) > pool_.available()) return false;

  sequence.submitted = std::ssize(matched) * size;
  sequence.published = std::ssize(matched);
  sequence.link = link;
  sequence.blocks = std::move(matched);
  for (int32_t block : sequence.blocks) pool_.acquire(block);
  for (int64_t i = 0; i < fresh; ++i) sequence.blocks.push_back(pool_.allocate());
  if (!sequence.was_admitted) {
    sequence.cached_tokens = sequence.submitted;
    stats_.prefix_queries += sequence.prompt_len;
    stats_.prefix_hits += sequence.submitted;
    if (latency_) latency_->admitted(sequence.prompt_len, sequence.submitted);
    leave_queue(sequence);
  }
  sequence.running = true;
  waiting_.erase(&sequence);
  running_.insert(std::ranges::upper_bound(running_, &sequence, GoesFirst{}), &sequence);
  return true;
}

// Back to the queue without blocks; what was computed is computed again, to the same bits, or found in the prefix
// cache.
void Scheduler::preempt(Sequence& sequence) {
  std::erase(running_, &sequence);
  retire_blocks(sequence);
  waiting_.insert(&sequence);
  ++stats_.preemptions;
}

// Adds as many of the sequence's tokens as the budget and the runner's buffers take; returns how many.
int64_t Scheduler::append(StepPlan& plan, Sequence& sequence, int64_t budget) {
  const int64_t start = sequence.submitted;
  int64_t count = std::min(sequence.tokens_left(), budget);
  // The last token is what the draw comes from.
  if (!sequence.mask_is_known() && start + count == sequence.len() && sequence.len() < sequence.max_len) --count;
  if (limits_.max_prompt_blocks > 0 && start < sequence.prompt_len) {
    const int64_t room = (limits_.max_prompt_blocks - plan.prompt_blocks(limits_.block_size)) * limits_.block_size;
    if (std::min(start + count, sequence.prompt_len) > room) count = room - start;
  }
  count = std::min(count, std::ssize(sequence.blocks) * limits_.block_size - start);
  // A row for each prompt log-probability wanted, besides the last row that each sequence has.
  int64_t first_row = start + count - 1;
  if (sequence.lacks_prompt_logprobs()) {
    const int64_t first_wanted = std::max(start, std::ssize(sequence.prompt_logprobs) - 1);
    const int64_t extra = limits_.max_logits - options_.max_num_seqs -  //
                          (plan.num_rows() - std::ssize(plan.sequences));
    count = std::min(count, first_wanted + extra + 1 - start);
    first_row = std::min(first_wanted, start + count - 1);
  }
  const bool draws = start + count == sequence.len() && sequence.len() < sequence.max_len;
  if (count <= 0 || (draws && plan.num_edits() + sequence.edits.size() > limits_.max_edits)) return 0;

  const int64_t num_blocks = ceil_div(start + count, limits_.block_size);
  HEARTH_CHECK(num_blocks <= std::ssize(sequence.blocks));
  plan.sequences.push_back({.sequence = sequence.number,
                            .start = narrow(start),
                            .prompt_len = narrow(sequence.prompt_len),
                            .first_token = narrow(plan.num_tokens()),
                            .num_tokens = narrow(count),
                            .first_block = narrow(std::ssize(plan.block_ids)),
                            .num_blocks = narrow(num_blocks),
                            .first_row = narrow(plan.num_rows()),
                            .num_rows = narrow(start + count - first_row),
                            .draws = draws});
  plan.block_ids.insert(plan.block_ids.end(), sequence.blocks.begin(), sequence.blocks.begin() + num_blocks);
  for (int64_t position = start; position < start + count; ++position) {
    if (position >= first_row) append_row(plan, sequence, position, draws && position == start + count - 1);
    if (position < std::ssize(sequence.tokens)) {
      plan.token_ids.push_back(sequence.tokens[position]);
    } else {
      HEARTH_CHECK(sequence.last_step == plan.step - 1);
      plan.token_ids.push_back(-1 - sequence.draw_row);
    }
  }
  sequence.submitted += count;
  sequence.last_step = plan.step;
  if (draws) {
    ++sequence.draws_in_flight;
    sequence.draw_row = narrow(plan.num_rows() - 1);
    if (sequence.next != nullptr) sequence.drawn_with = sequence.next->mask;
  }
  return count;
}

// The logits after the token at `position`, which comes next in plan.token_ids.
void Scheduler::append_row(StepPlan& plan, const Sequence& sequence, int64_t position, bool draws) {
  const SamplingParams& sampling = sequence.request.sampling;
  SamplingRow row;
  row.position = narrow(position + 1);
  if (draws) {
    row.temperature = sampling.temperature;
    row.top_p = sampling.top_p;
    row.min_p = sampling.min_p;
    row.frequency_penalty = sampling.frequency_penalty;
    row.presence_penalty = sampling.presence_penalty;
    row.repetition_penalty = sampling.repetition_penalty;
    row.top_k = sampling.top_k;
    row.num_logprobs = sampling.logprobs;
    row.seed = sampling.seed;
    const auto& next = sequence.next;
    if (next != nullptr && next->mask != nullptr) {
      plan.masked_rows.push_back(narrow(plan.num_rows()));
      plan.masks.push_back(next->mask);
    }
    const bool ends_are_masked = sequence.len() - sequence.prompt_len < sampling.min_tokens;
    sequence.edits.append_to(plan, ends_are_masked && (next == nullptr || !next->must_end));
  } else {
    row.target = sequence.tokens[position + 1];
    row.num_logprobs = position + 1 < sequence.prompt_len ? sampling.prompt_logprobs : -1;
  }
  plan.rows.push_back(row);
  plan.logit_rows.push_back(narrow(plan.num_tokens()));
  plan.edit_starts.push_back(narrow(plan.num_edits()));
}

void Scheduler::commit(const StepResult& result, TimePoint now) {
  HEARTH_CHECK(!in_flight_.empty());
  StepPlan plan = std::move(in_flight_.front());
  in_flight_.pop_front();
  HEARTH_CHECK(plan.step == committed_step_ + 1);
  committed_step_ = plan.step;
  if (latency_) latency_->completed(now);
  if (result.device_time) {
    stats_.device_busy_seconds += result.device_time->seconds;
    if (plan.step != first_of_work_) stats_.device_idle_seconds += result.device_time->gap;
  }
  if (result.status.ok()) {
    HEARTH_CHECK(std::ssize(result.tokens) >= plan.num_rows());
    for (const StepSequence& part : plan.sequences) {
      // One that ended while the step was in flight is no longer there, and what it drew is nobody's.
      const auto it = sequences_.find(part.sequence);
      if (it != sequences_.end()) commit(*it->second, part, plan, result, now);
    }
  } else {
    fail_all(result.status);
  }
  while (!retired_.empty() && retired_.front().last_step <= committed_step_) {
    pool_.release_all(retired_.front().blocks);
    retired_.pop_front();
  }
  plan.clear();
  spare_plan_ = std::move(plan);
  publish_outlook(now);
}

void Scheduler::commit(Sequence& sequence, const StepSequence& part, const StepPlan& plan, const StepResult& result,
                       TimePoint now) {
  if (plan.step <= sequence.void_step) return;
  // A mask that is not there yet is taken for another.
  if (part.draws && !sequence.draw_is_right()) return take_back_draw(sequence);
  const SamplingParams& sampling = sequence.request.sampling;
  const int64_t end = part.start + part.num_tokens;
  for (int64_t row = part.first_row; row < part.first_row + part.num_rows; ++row) {
    if (result.tokens[row] < 0) {  // a NaN: nothing of this sequence can be trusted, nor published
      return finish(sequence, FinishReason::kError, internal_error("the model's logits are not finite"));
    }
    const int64_t position = plan.rows[row].position;
    if (sequence.lacks_prompt_logprobs() && position == std::ssize(sequence.prompt_logprobs)) {
      sequence.prompt_logprobs.emplace_back(logprob(result, row, sampling.prompt_logprobs));
    }
  }

  RequestEvent event;
  event.first_scheduled = sequence.first_scheduled;
  std::optional<FinishReason> reason;
  if (part.draws) {
    const int64_t row = part.first_row + part.num_rows - 1;
    const int32_t token = result.tokens[row];
    sequence.tokens.push_back(token);
    sequence.edits.count_generated(token);
    --sequence.draws_in_flight;
    event.tokens.push_back({token});
    if (sampling.logprobs >= 0) event.tokens.back().logprob = logprob(result, row, sampling.logprobs);
    ++stats_.generation_tokens;
    if (std::ssize(sequence.tokens) == sequence.prompt_len + 1) {
      sequence.first_token = seconds(now);
      stats_.prompt_tokens += sequence.prompt_len;
      event.prompt_logprobs = sequence.prompt_logprobs;
    }
    if (sequence.is_stop(token)) reason = FinishReason::kStop;
  }
  // One that was preempted while the step was in flight keeps its token, but its blocks are gone.
  if (sequence.running) publish(sequence, end);
  if (!reason && std::ssize(sequence.tokens) == sequence.max_len && !sequence.lacks_prompt_logprobs()) {
    reason = FinishReason::kLength;
    if (!part.draws) event.prompt_logprobs = sequence.prompt_logprobs;
  }
  if (reason) return finish(sequence, *reason, {}, std::move(event));
  if (part.draws && sequence.next != nullptr) options_.mask_maker->ask(sequence.next, event.tokens.back().token);
  if (!event.tokens.empty()) {
    sequence.request.on_event(std::move(event));
  }
}

// Every block that the first `computed` tokens fill becomes findable.
void Scheduler::publish(Sequence& sequence, int64_t computed) {
  const int64_t size = limits_.block_size;
  for (; options_.prefix_cache && (sequence.published + 1) * size <= computed; ++sequence.published) {
    const int64_t begin = sequence.published * size;
    const int64_t prompt_tokens = std::clamp<int64_t>(sequence.prompt_len - begin, 0, size);
    sequence.link = index_.publish(sequence.blocks[sequence.published], sequence.link,
                                   std::span(sequence.tokens).subspan(begin, size), prompt_tokens);
  }
}

TokenLogprob Scheduler::logprob(const StepResult& result, int64_t row, int64_t num_top) const {
  TokenLogprob out{.token = result.tokens[row], .logprob = result.logprobs[row], .rank = result.ranks[row], .top = {}};
  for (int64_t i = row * limits_.max_logprobs; i < row * limits_.max_logprobs + num_top; ++i) {
    if (result.top_tokens[i] < 0) break;  // the vocabulary is smaller
    out.top.emplace_back(result.top_tokens[i], result.top_logprobs[i]);
  }
  return out;
}

void Scheduler::leave_queue(Sequence& sequence) {
  if (sequence.was_admitted) return;
  sequence.was_admitted = true;
  --queue_->requests;
  queue_->bytes -= queue_bytes(sequence.request.sampling, sequence.prompt_len);
}

void Scheduler::retire_blocks(Sequence& sequence) {
  if (in_flight(sequence)) {
    // Kept in order of last_step: that is the last submitted step, or the one before it.
    auto at = retired_.end();
    while (at != retired_.begin() && std::prev(at)->last_step > sequence.last_step) --at;
    retired_.insert(at, {sequence.last_step, std::move(sequence.blocks)});
  } else {
    pool_.release_all(sequence.blocks);
  }
  sequence.blocks.clear();
  sequence.submitted = sequence.published = 0;
  sequence.link = sequence.root;
  sequence.running = false;
}

void Scheduler::finish(Sequence& sequence, FinishReason reason, Status error, RequestEvent event) {
  event.finish = reason;
  event.error = std::move(error);
  event.cached_tokens = sequence.cached_tokens;
  event.first_scheduled = sequence.first_scheduled;
  if (sequence.running) {
    std::erase(running_, &sequence);
    retire_blocks(sequence);
  } else {
    waiting_.erase(&sequence);
  }
  leave_queue(sequence);
  if (sequence.next != nullptr) --constrained_;
  if (latency_) first_token_targets_ -= latency_->own_targets(sequence.request).ttft > 0 ? 1 : 0;
  if (latency_ && (reason == FinishReason::kStop || reason == FinishReason::kLength)) {
    latency_->ended(std::ssize(sequence.tokens) - sequence.prompt_len, reason == FinishReason::kStop);
  }
  if (const auto it = by_id_.find(sequence.request.id); it != by_id_.end() && it->second == &sequence) by_id_.erase(it);
  const auto owner = sequences_.extract(sequence.number);
  if (sequences_.empty()) first_of_work_ = last_step_ + 1;
  sequence.request.on_event(std::move(event));
}

EngineStats Scheduler::stats() const {
  EngineStats stats = stats_;
  stats.running = std::ssize(running_);
  stats.waiting = std::ssize(waiting_);
  stats.blocks_total = pool_.size();
  stats.blocks_used = pool_.used();
  if (latency_) latency_->add_to(stats);
  return stats;
}

void Scheduler::check_integrity() const {
  pool_.check_integrity();
  HEARTH_CHECK(sequences_.size() == running_.size() + waiting_.size() && sequences_.size() == by_id_.size());
  HEARTH_CHECK(std::ranges::is_sorted(running_, GoesFirst{}) && std::ssize(running_) <= options_.max_num_seqs);

  std::vector<int64_t> users(pool_.size());
  auto count = [&](const std::vector<int32_t>& blocks) {
    for (int32_t block : blocks) ++users[block];
  };
  int64_t queued = 0, queued_bytes = 0;
  for (const auto& [number, sequence] : sequences_) {
    const Sequence& s = *sequence;
    count(s.blocks);
    queued += s.was_admitted ? 0 : 1;
    queued_bytes += s.was_admitted ? 0 : queue_bytes(s.request.sampling, s.prompt_len);
    HEARTH_CHECK(s.running == !waiting_.contains(sequence.get()) && s.running == !s.blocks.empty());
    HEARTH_CHECK(s.len() <= s.max_len && s.submitted <= s.len());
    HEARTH_CHECK(s.published * limits_.block_size <= s.submitted);
    HEARTH_CHECK(s.draws_in_flight <= num_in_flight() && (s.draws_in_flight == 0 || in_flight(s)));
  }
  HEARTH_CHECK(queued <= queue_->requests && queued_bytes <= queue_->bytes);
  for (const Retired& retired : retired_) {
    HEARTH_CHECK(retired.last_step > committed_step_ && retired.last_step <= last_step_);
    count(retired.blocks);
  }
  for (int32_t block = 0; block < pool_.size(); ++block) HEARTH_CHECK(users[block] == pool_.users(block));

  HEARTH_CHECK(last_step_ - committed_step_ == num_in_flight());
  for (const StepPlan& plan : in_flight_) {
    HEARTH_CHECK(plan.num_tokens() <= options_.max_num_batched_tokens && plan.num_rows() <= limits_.max_logits);
    HEARTH_CHECK(plan.num_edits() <= limits_.max_edits && limits_.hold_prompts(plan));
    std::set<int64_t> seen;
    for (const StepSequence& part : plan.sequences) HEARTH_CHECK(seen.insert(part.sequence).second);
    for (int32_t block : plan.block_ids) HEARTH_CHECK(pool_.users(block) > 0);
  }
}

}  // namespace hearth
