// Prometheus text format 0.0.4.
#include "server/metrics.h"

#include <algorithm>

#include "api/json_writer.h"

namespace hearth {
namespace {

std::vector<double> decades(double first, double last) {
  std::vector<double> out;
  for (double decade = first; decade <= last; decade *= 10) {
    for (const double step : {1.0, 2.0, 5.0}) {
      if (decade * step <= last) out.push_back(decade * step);
    }
  }
  return out;
}

// Under which names a family stands: hearth: has all, vllm: what vLLM has under that name, and no more.
enum class Names { kBoth, kHearth, kVllm };

class Page {
 public:
  explicit Page(const std::string& labels) : labels_(labels) {}

  void value(std::string_view type, std::string_view name, std::string_view help, double v,
             Names names = Names::kBoth) {
    family(names, type, name, help, [&](std::string_view full) { sample(full, "", v); });
  }
  void labelled(std::string_view type, std::string_view name, std::string_view help, std::string_view label,
                const std::map<std::string, int64_t, std::less<>>& values) {
    family(Names::kBoth, type, name, help, [&](std::string_view full) {
      for (const auto& [key, v] : values) sample(full, cat(",", label, "=\"", key, "\""), static_cast<double>(v));
    });
  }
  void histogram(std::string_view name, std::string_view help, const Histogram& h, Names names = Names::kBoth) {
    family(names, "histogram", name, help, [&](std::string_view full) {
      int64_t below = 0;
      for (size_t i = 0; i < h.bounds().size(); ++i) {
        below += h.count(i);
        sample(cat(full, "_bucket"), cat(",le=\"", h.bounds()[i], "\""), static_cast<double>(below));
      }
      below += h.count(h.bounds().size());
      sample(cat(full, "_bucket"), ",le=\"+Inf\"", static_cast<double>(below));
      sample(cat(full, "_sum"), "", h.sum());
      sample(cat(full, "_count"), "", static_cast<double>(below));
    });
  }
  std::string take() { return std::move(out_); }

 private:
  template <typename Body>
  void family(Names names, std::string_view type, std::string_view name, std::string_view help, Body body) {
    for (const Names one : {Names::kHearth, Names::kVllm}) {
      if (names != Names::kBoth && names != one) continue;
      const std::string full = cat(one == Names::kHearth ? "hearth:" : "vllm:", name);
      append_all("# HELP ", full, " ", help, "\n# TYPE ", full, " ", type, "\n");
      body(full);
    }
  }
  void sample(std::string_view name, std::string_view more_labels, double v) {
    append_all(name, "{", labels_, more_labels, "} ", v, "\n");
  }
  template <typename... Args>
  void append_all(const Args&... args) {
    (append(out_, args), ...);
  }

  const std::string& labels_;
  std::string out_;
};

std::string model_label(std::string_view name) {
  std::string out = "model_name=";
  append_json_string(out, name);  // the same escapes, for names without control characters
  return out + ",engine=\"0\"";
}

}  // namespace

void Histogram::observe(double value, int64_t times) {
  const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  counts_[static_cast<size_t>(bucket)] += times;
  sum_ += value * static_cast<double>(times);
}

Histogram::Histogram(const std::map<int64_t, int64_t>& counts, double sum) : sum_(sum) {
  for (const auto& [bound, count] : counts) {
    bounds_.push_back(static_cast<double>(bound));
    counts_.push_back(count);
  }
  counts_.push_back(0);
}

Metrics::Metrics(std::string_view model_name)
    : labels_(model_label(model_name)),
      time_to_first_token_(decades(0.001, 1000)),
      inter_token_(decades(0.001, 100)),
      time_per_output_token_(decades(0.001, 100)),
      e2e_(decades(0.01, 1000)),
      queue_(decades(0.001, 1000)),
      prefill_(decades(0.001, 1000)),
      decode_(decades(0.001, 1000)),
      inference_(decades(0.001, 1000)),
      prompt_tokens_(decades(1, 200000)),
      generation_tokens_(decades(1, 200000)),
      finished_{{"stop", 0}, {"length", 0}, {"abort", 0}, {"error", 0}} {}

void Metrics::first_token(Duration since_arrival) { time_to_first_token_.observe(seconds(since_arrival)); }

void Metrics::next_tokens(Duration since_last, int64_t count) {
  inter_token_.observe(seconds(since_last) / static_cast<double>(count), count);
}

void Metrics::finished(const Finished& request) {
  ++finished_.find(request.reason)->second;
  e2e_.observe(seconds(request.since_arrival));
  prompt_tokens_.observe(static_cast<double>(request.prompt_tokens));
  generation_tokens_.observe(static_cast<double>(request.completion_tokens));
  if (request.since_scheduled) {
    queue_.observe(seconds(request.since_arrival - *request.since_scheduled));
    inference_.observe(seconds(*request.since_scheduled));
  }
  if (!request.since_first_token) return;
  decode_.observe(seconds(*request.since_first_token));
  if (request.since_scheduled) prefill_.observe(seconds(*request.since_scheduled - *request.since_first_token));
  if (request.completion_tokens > 1) {
    time_per_output_token_.observe(seconds(*request.since_first_token) /
                                   static_cast<double>(request.completion_tokens - 1));
  }
}

std::string Metrics::render(const EngineStats& stats, int64_t block_size) const {
  Page page(labels_);
  const auto number = [](int64_t n) { return static_cast<double>(n); };
  page.value("gauge", "num_requests_running", "Requests in the running batch.", number(stats.running));
  page.value("gauge", "num_requests_waiting", "Requests waiting to be run.", number(stats.waiting));
  page.value("gauge", "kv_cache_usage_perc", "Share of KV blocks in use; 1 is full.",
             stats.blocks_total > 0 ? number(stats.blocks_used) / number(stats.blocks_total) : 0);
  page.value("counter", "prompt_tokens_total", "Prompt tokens computed.", number(stats.prompt_tokens));
  page.value("counter", "generation_tokens_total", "Tokens generated.", number(stats.generation_tokens));
  page.value("counter", "num_preemptions_total", "Sequences preempted.", number(stats.preemptions));
  page.value("counter", "prefix_cache_queries_total", "Prompt tokens looked up.", number(stats.prefix_queries));
  page.value("counter", "prefix_cache_hits_total", "Prompt tokens found.", number(stats.prefix_hits));
  page.value("counter", "latency_refusals_total", "Requests refused because a latency target could not be kept.",
             number(stats.latency_refusals), Names::kHearth);
  page.value("counter", "gpu_busy_seconds_total", "Time of the GPU in steps.", stats.device_busy_seconds,
             Names::kHearth);
  page.value("counter", "gpu_idle_seconds_total", "Time of the GPU between steps while there were requests.",
             stats.device_idle_seconds, Names::kHearth);
  page.labelled("counter", "request_success_total", "Requests ended, by reason.", "finished_reason", finished_);
  page.histogram("time_to_first_token_seconds", "From arrival to the first token.", time_to_first_token_);
  page.histogram("inter_token_latency_seconds", "Between a request's tokens.", inter_token_);
  page.histogram("time_per_output_token_seconds", "Between a request's tokens: vLLM's older name for it.", inter_token_,
                 Names::kVllm);
  page.histogram("request_time_per_output_token_seconds", "A request's mean time per token after the first.",
                 time_per_output_token_);
  page.histogram("e2e_request_latency_seconds", "From arrival to the last token.", e2e_);
  page.histogram("request_queue_time_seconds", "From arrival to the first step that computes it.", queue_);
  page.histogram("request_prefill_time_seconds", "From that step to the first token.", prefill_);
  page.histogram("request_decode_time_seconds", "From the first token to the last.", decode_);
  page.histogram("request_inference_time_seconds", "From the first step to the last token.", inference_);
  page.histogram("request_prompt_tokens", "Prompt tokens of a request.", prompt_tokens_);
  page.histogram("request_generation_tokens", "Generated tokens of a request.", generation_tokens_);
  page.histogram("iteration_tokens_total", "Tokens computed in a step.",
                 Histogram(stats.tokens_per_step, number(stats.step_tokens)));
  page.histogram("step_time_error_percent", "By how much predictions of a step's time were off.",
                 Histogram(stats.step_time_errors, stats.step_time_error_sum), Names::kHearth);
  page.labelled("gauge", "cache_config_info", "The KV cache's shape.",
                cat("block_size=\"", block_size, "\",num_gpu_blocks"), {{std::to_string(stats.blocks_total), 1}});
  return page.take();
}

}  // namespace hearth
