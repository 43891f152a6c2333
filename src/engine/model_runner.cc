// The real runner: packs a plan into fixed buffers, one copy up; the model, the sampler; one copy down.
#include "engine/model_runner.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <deque>

#include "grammar/constraint.h"
#include "models/kv_cache.h"

namespace hearth {

namespace {

// Places of arrays in one buffer, the same on the host and on the device.
class Layout {
 public:
  template <typename T>
  int64_t place(int64_t count) {
    const int64_t offset = bytes_;
    bytes_ = ceil_div(offset + count * static_cast<int64_t>(sizeof(T)), kAlignment) * kAlignment;
    return offset;
  }
  int64_t bytes() const { return bytes_; }

 private:
  static constexpr int64_t kAlignment = 256;
  int64_t bytes_ = 0;
};

struct InputLayout : Layout {
  explicit InputLayout(const RunnerLimits& limits)
      : sizes(place<int32_t>(3)),
        token_ids(place<int32_t>(limits.max_tokens)),
        positions(place<int32_t>(limits.max_tokens)),
        slots(place<int64_t>(limits.max_tokens)),
        query_start(place<int32_t>(limits.max_sequences + 1)),
        context_lens(place<int32_t>(limits.max_sequences)),
        prompt_lens(place<int32_t>(limits.max_sequences)),
        logit_rows(place<int32_t>(limits.max_logits)),
        rows(place<SamplingRow>(limits.max_logits)),
        edit_starts(place<int32_t>(limits.max_logits + 1)),
        has_mask(place<uint8_t>(limits.max_logits)) {}
  int64_t sizes, token_ids, positions, slots, query_start, context_lens, prompt_lens, logit_rows, rows, edit_starts,
      has_mask;
};

struct OutputLayout : Layout {
  explicit OutputLayout(const RunnerLimits& limits)
      : tokens(place<int32_t>(limits.max_logits)),
        logprobs(place<float>(limits.max_logits)),
        ranks(place<int32_t>(limits.max_logits)),
        top_tokens(place<int32_t>(limits.max_logits * limits.max_logprobs)),
        top_logprobs(place<float>(limits.max_logits * limits.max_logprobs)) {}
  int64_t tokens, logprobs, ranks, top_tokens, top_logprobs;
};

// A device buffer and two host buffers for it: one is filled while the other's copy is on its way.
struct Mirror {
  Tensor device;
  std::array<Tensor, 2> host;

  static Result<Mirror> make(Backend& backend, std::string_view what, DType dtype, Shape shape) {
    Mirror out;
    HEARTH_ASSIGN(out.device, backend.allocate(what, dtype, shape));
    for (Tensor& host : out.host) {
      HEARTH_ASSIGN(host, backend.allocate_host(what, dtype, shape));
    }
    return out;
  }
};

template <typename T>
T* at(const Tensor& buffer, int64_t offset) {
  return reinterpret_cast<T*>(static_cast<char*>(buffer.data) + offset);
}

template <typename T>
Tensor view(const Tensor& buffer, int64_t offset, Shape shape) {
  return {at<T>(buffer, offset), detail::dtype_of<T>::value, shape};
}

template <typename T>
void copy(const std::vector<T>& from, T* to) {
  std::copy(from.begin(), from.end(), to);
}

class ModelRunner final : public Runner {
 public:
  ModelRunner(std::shared_ptr<Backend> backend, std::shared_ptr<Model> model, const RunnerLimits& limits,
              const std::vector<int64_t>& token_buckets)
      : backend_(std::move(backend)),
        model_(std::move(model)),
        limits_(limits),
        max_blocks_(ceil_div(limits.max_model_len, kBlockSize)),
        token_buckets_(token_buckets),
        input_(limits),
        output_(limits) {}

  Status allocate() {
    Backend& backend = *backend_;
    HEARTH_ASSIGN(inputs_, Mirror::make(backend, "step inputs", DType::kU8, {input_.bytes()}));
    HEARTH_ASSIGN(outputs_, Mirror::make(backend, "step results", DType::kU8, {output_.bytes()}));
    HEARTH_ASSIGN(block_tables_,
                  Mirror::make(backend, "block tables", DType::kI32, {limits_.max_sequences, max_blocks_}));
    HEARTH_ASSIGN(edit_tokens_, Mirror::make(backend, "logit edits", DType::kI32, {limits_.max_edits}));
    HEARTH_ASSIGN(edit_counts_, Mirror::make(backend, "logit edits", DType::kI32, {limits_.max_edits}));
    HEARTH_ASSIGN(edit_biases_, Mirror::make(backend, "logit edits", DType::kF32, {limits_.max_edits}));
    const int64_t mask_words = Constraint::mask_words(limits_.vocab_size);
    HEARTH_ASSIGN(masks_, Mirror::make(backend, "masks", DType::kI32, {limits_.max_logits, mask_words}));
    HEARTH_ASSIGN(logits_, backend.allocate("logits", DType::kF32, {limits_.max_logits, limits_.vocab_size}));
    HEARTH_ASSIGN(cache_, allocate_kv_cache(backend, model_->kv_specs(), limits_.num_blocks));
    // Read before the first step's samples are there, by no row that counts.
    backend.zero(outputs_.device);
    return {};
  }

  RunnerLimits limits() const override { return limits_; }

  // Captures the steps of every bucket, by steps without a token.
  Status prepare() override {
    backend_->enter();
    for (const int64_t bucket : token_buckets_) {
      for (const bool prompt : {true, false}) {
        if (!prompt && bucket > most_generated_) continue;
        upload({}, bucket);
        backend_->run(key(bucket, prompt), [&] { record({}, bucket, prompt); });
        HEARTH_TRY(backend_->wait(backend_->mark()));
      }
    }
    return {};
  }

  void submit(const StepPlan& plan) override {
    queue_inputs(plan);
    queue_step(plan);
    queue_results(plan);
  }
  void queue_inputs(const StepPlan& plan) override {
    backend_->enter();
    HEARTH_CHECK(in_flight_.size() < 2);
    upload(plan, bucket_of(plan.num_tokens()));
  }
  void queue_step(const StepPlan& plan) override {
    backend_->enter();
    const int64_t bucket = bucket_of(plan.num_tokens());
    const bool prompt = for_prompts(plan, bucket);
    backend_->run(key(bucket, prompt), [&] { record(plan, bucket, prompt); });
  }
  void queue_results(const StepPlan& plan) override {
    backend_->enter();
    const size_t side = side_of(plan);
    backend_->enqueue_download(outputs_.device, outputs_.host[side]);
    in_flight_.push_back({side, plan.num_rows(), backend_->mark()});
  }

  std::vector<OpTime> profile(const StepPlan& plan, const std::function<void()>& ready) override {
    backend_->enter();
    HEARTH_CHECK(in_flight_.empty());
    const int64_t bucket = bucket_of(plan.num_tokens());
    upload(plan, bucket);
    return backend_->profile([&] { record(plan, bucket, for_prompts(plan, bucket)); }, ready);
  }

  StepResult wait() override {
    backend_->enter();
    HEARTH_CHECK(!in_flight_.empty());
    const InFlight step = in_flight_.front();
    in_flight_.pop_front();
    StepResult result;
    Result<std::optional<RunTime>> time = backend_->wait(step.mark);
    if (!time.ok()) {
      result.status = time.status();
      return result;
    }
    result.device_time = *time;
    const Tensor& host = outputs_.host[step.side];
    auto results = [&]<typename T>(std::vector<T>& to, int64_t offset, int64_t count) {
      to.assign(at<T>(host, offset), at<T>(host, offset) + count);
    };
    results(result.tokens, output_.tokens, step.num_rows);
    results(result.logprobs, output_.logprobs, step.num_rows);
    results(result.ranks, output_.ranks, step.num_rows);
    results(result.top_tokens, output_.top_tokens, step.num_rows * limits_.max_logprobs);
    results(result.top_logprobs, output_.top_logprobs, step.num_rows * limits_.max_logprobs);
    return result;
  }

 private:
  struct InFlight {
    size_t side;
    int64_t num_rows;
    int64_t mark;
  };

  // A backend may serve several runners, each with buffers of its own.
  int64_t key(int64_t bucket, bool prompt) const { return id_ << 32 | bucket << 1 | int64_t{prompt}; }

  // Whether a step takes the graph that does prompt tokens too. One without any does not need it, but the other graph
  // is there only for so many tokens as sequences generate at a time: more are generated ones computed again.
  bool for_prompts(const StepPlan& plan, int64_t bucket) const {
    return bucket > most_generated_ ||
           std::ranges::any_of(plan.sequences, [](const StepSequence& s) { return s.start < s.prompt_len; });
  }

  int64_t bucket_of(int64_t num_tokens) const {
    if (token_buckets_.empty()) return num_tokens;
    const auto it = std::ranges::lower_bound(token_buckets_, num_tokens);
    HEARTH_CHECK(it != token_buckets_.end());
    return *it;
  }

  // Of the buffers that the step uses.
  static size_t side_of(const StepPlan& plan) { return static_cast<size_t>(plan.step % 2); }

  void upload(const StepPlan& plan, int64_t bucket) {
    const size_t side = side_of(plan);
    pack(plan, side, bucket);
    backend_->enqueue_upload(inputs_.host[side], inputs_.device);
    upload(block_tables_, side, std::ssize(plan.sequences));
    upload(edit_tokens_, side, plan.num_edits());
    upload(edit_counts_, side, plan.num_edits());
    upload(edit_biases_, side, plan.num_edits());
    // In runs of neighbouring rows.
    for (size_t begin = 0, end; begin < plan.masked_rows.size(); begin = end) {
      const int64_t first = plan.masked_rows[begin];
      for (end = begin + 1; end < plan.masked_rows.size() && plan.masked_rows[end] == plan.masked_rows[end - 1] + 1;)
        ++end;
      const auto count = static_cast<int64_t>(end - begin);
      backend_->enqueue_upload(masks_.host[side].rows(first, count), masks_.device.rows(first, count));
    }
  }

  void upload(const Mirror& buffer, size_t side, int64_t count) {
    if (count > 0) backend_->enqueue_upload(buffer.host[side].rows(0, count), buffer.device.rows(0, count));
  }

  void pack(const StepPlan& plan, size_t side, int64_t bucket) {
    const int64_t num_sequences = std::ssize(plan.sequences);
    HEARTH_CHECK(plan.num_tokens() <= limits_.max_tokens && num_sequences <= limits_.max_sequences);
    HEARTH_CHECK(plan.num_rows() <= limits_.max_logits && plan.num_edits() <= limits_.max_edits);
    HEARTH_CHECK(limits_.hold_prompts(plan));
    const Tensor& host = inputs_.host[side];
    auto* positions = at<int32_t>(host, input_.positions);
    auto* slots = at<int64_t>(host, input_.slots);
    auto* query_start = at<int32_t>(host, input_.query_start);
    auto* context_lens = at<int32_t>(host, input_.context_lens);
    auto* prompt_lens = at<int32_t>(host, input_.prompt_lens);
    auto* block_table = block_tables_.host[side].as<int32_t>();

    auto* sizes = at<int32_t>(host, input_.sizes);
    sizes[0] = static_cast<int32_t>(plan.num_tokens());
    sizes[1] = static_cast<int32_t>(num_sequences);
    sizes[2] = static_cast<int32_t>(plan.num_rows());
    copy(plan.token_ids, at<int32_t>(host, input_.token_ids));
    for (const StepSequence& part : plan.sequences) {
      const int32_t* blocks = plan.block_ids.data() + part.first_block;
      HEARTH_CHECK(part.num_blocks <= max_blocks_);
      std::copy(blocks, blocks + part.num_blocks, block_table);
      block_table += max_blocks_;
      *query_start++ = part.first_token;
      *context_lens++ = part.start + part.num_tokens;
      *prompt_lens++ = part.prompt_len;
      for (int32_t position = part.start; position < part.start + part.num_tokens; ++position) {
        *positions++ = position;
        *slots++ = blocks[position / kBlockSize] * kBlockSize + position % kBlockSize;
      }
    }
    // Sequences that only fill the bucket have no tokens.
    for (int64_t i = num_sequences; i <= std::min(std::max(bucket, num_sequences), limits_.max_sequences); ++i) {
      *query_start++ = static_cast<int32_t>(plan.num_tokens());
    }
    copy(plan.logit_rows, at<int32_t>(host, input_.logit_rows));
    copy(plan.rows, at<SamplingRow>(host, input_.rows));
    copy(plan.edit_starts, at<int32_t>(host, input_.edit_starts));
    auto* has_mask = at<uint8_t>(host, input_.has_mask);
    std::fill_n(has_mask, limits_.max_logits, uint8_t{0});
    for (size_t i = 0; i < plan.masked_rows.size(); ++i) {
      has_mask[plan.masked_rows[i]] = 1;
      copy(*plan.masks[i], masks_.host[side].rows(plan.masked_rows[i], 1).as<int32_t>());
    }
    copy(plan.edit_tokens, edit_tokens_.host[side].as<int32_t>());
    copy(plan.edit_counts, edit_counts_.host[side].as<int32_t>());
    copy(plan.edit_biases, edit_biases_.host[side].as<float>());
  }

  // With buckets, all sizes are the bucket's and what it limits.
  void record(const StepPlan& plan, int64_t bucket, bool prompt) {
    const int64_t sequences = token_buckets_.empty() ? std::ssize(plan.sequences) : bucket;
    const int64_t rows = token_buckets_.empty() ? plan.num_rows() : bucket;
    record(bucket, std::min(sequences, limits_.max_sequences), std::min(rows, limits_.max_logits), prompt);
  }

  // The ops of a step. Everything they read lies at a fixed place.
  void record(int64_t num_tokens, int64_t num_sequences, int64_t num_rows, bool prompt) {
    const Tensor& in = inputs_.device;
    const Tensor& out = outputs_.device;
    Batch batch;
    batch.num_tokens = num_tokens;
    batch.num_sequences = num_sequences;
    batch.num_logits = num_rows;
    batch.may_have_prompt = prompt;
    batch.sizes = view<int32_t>(in, input_.sizes, {3});
    batch.token_ids = view<int32_t>(in, input_.token_ids, {num_tokens});
    // The embedding reads the last step's tokens before the sampler writes this one's.
    batch.previous_tokens = view<int32_t>(out, output_.tokens, {limits_.max_logits});
    batch.positions = view<int32_t>(in, input_.positions, {num_tokens});
    batch.slots = view<int64_t>(in, input_.slots, {num_tokens});
    batch.query_start = view<int32_t>(in, input_.query_start, {num_sequences + 1});
    batch.context_lens = view<int32_t>(in, input_.context_lens, {num_sequences});
    batch.prompt_lens = view<int32_t>(in, input_.prompt_lens, {num_sequences});
    batch.block_tables = block_tables_.device.rows(0, num_sequences);
    batch.logit_rows = view<int32_t>(in, input_.logit_rows, {num_rows});
    const Tensor logits = logits_.rows(0, num_rows);
    model_->forward(backend_->ops(), batch, cache_, logits);

    SampleArgs sample;
    sample.logits = logits;
    sample.sizes = batch.sizes;
    sample.rows = view<uint8_t>(in, input_.rows, {num_rows, sizeof(SamplingRow)});
    sample.edit_starts = view<int32_t>(in, input_.edit_starts, {num_rows + 1});
    sample.edit_tokens = edit_tokens_.device;
    sample.edit_counts = edit_counts_.device;
    sample.edit_biases = edit_biases_.device;
    sample.allowed = masks_.device.rows(0, num_rows);
    sample.has_mask = view<uint8_t>(in, input_.has_mask, {num_rows});
    sample.tokens = view<int32_t>(out, output_.tokens, {num_rows});
    sample.logprobs = view<float>(out, output_.logprobs, {num_rows});
    sample.ranks = view<int32_t>(out, output_.ranks, {num_rows});
    sample.top_tokens = view<int32_t>(out, output_.top_tokens, {num_rows, limits_.max_logprobs});
    sample.top_logprobs = view<float>(out, output_.top_logprobs, {num_rows, limits_.max_logprobs});
    backend_->ops().sample(sample);
  }

  static inline std::atomic<int64_t> num_runners_ = 0;
  const int64_t id_ = num_runners_++;
  const std::shared_ptr<Backend> backend_;
  const std::shared_ptr<Model> model_;
  const RunnerLimits limits_;
  const int64_t max_blocks_;  // of a sequence
  const std::vector<int64_t> token_buckets_;
  const int64_t most_generated_ = bucket_of(std::min(limits_.max_sequences, limits_.max_tokens));
  const InputLayout input_;
  const OutputLayout output_;
  Mirror inputs_, outputs_, block_tables_, edit_tokens_, edit_counts_, edit_biases_, masks_;
  Tensor logits_;
  KvCache cache_;
  std::deque<InFlight> in_flight_;
};

}  // namespace

Result<std::unique_ptr<Runner>> make_model_runner(std::shared_ptr<Backend> backend, std::shared_ptr<Model> model,
                                                  const ModelRunnerOptions& options) {
  RunnerLimits limits;
  limits.num_blocks = options.num_blocks;
  limits.vocab_size = model->vocab_size();
  limits.max_model_len = options.max_model_len > 0 ? options.max_model_len : model->max_model_len();
  limits.max_tokens = options.max_tokens;
  limits.max_sequences = options.max_sequences;
  limits.max_logits = options.max_logits;
  limits.max_logprobs = std::max<int64_t>(options.max_logprobs, 1);
  limits.max_edits = std::max(options.max_edits, limits.vocab_size);
  limits.max_prompt_blocks = backend->max_prompt_blocks();
  auto runner = std::make_unique<ModelRunner>(std::move(backend), std::move(model), limits, options.token_buckets);
  HEARTH_TRY(runner->allocate());
  return std::unique_ptr<Runner>(std::move(runner));
}

}  // namespace hearth
