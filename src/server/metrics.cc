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

// The families of a page: each with a sample, or several, for every replica.
class Page {
 public:
  Page(std::string_view model_label, size_t replicas) : model_label_(model_label) {
    for (size_t i = 0; i < replicas; ++i) labels_.push_back(cat(model_label, ",engine=\"", i, "\""));
  }

  // `of`: from a replica's number.
  template <typename Of>
  void value(std::string_view type, std::string_view name, std::string_view help, Of of, Names names = Names::kBoth) {
    family(names, type, name, help, [&](std::string_view full, const std::string& labels, size_t i) {
      sample(full, labels, "", static_cast<double>(of(i)));
    });
  }
  // And its sum.
  template <typename Of>
  void summed(std::string_view type, std::string_view name, std::string_view help, Of of, Names names = Names::kBoth) {
    value(type, name, help, of, names);
    double sum = 0;
    for (size_t i = 0; i < labels_.size(); ++i) sum += static_cast<double>(of(i));
    server(type, name, help, sum);
  }
  // Of the server as a whole.
  void server(std::string_view type, std::string_view name, std::string_view help, double v) {
    const std::string full = cat("hearth:server_", name);
    head(full, type, help);
    sample(full, model_label_, "", v);
  }
  template <typename Of>
  void labelled(std::string_view type, std::string_view name, std::string_view help, std::string_view label, Of of) {
    family(Names::kBoth, type, name, help, [&](std::string_view full, const std::string& labels, size_t i) {
      for (const auto& [key, v] : of(i))
        sample(full, labels, cat(",", label, "=\"", key, "\""), static_cast<double>(v));
    });
  }
  template <typename Of>
  void histogram(std::string_view name, std::string_view help, Of of, Names names = Names::kBoth) {
    family(names, "histogram", name, help, [&](std::string_view full, const std::string& labels, size_t i) {
      const Histogram& h = of(i);
      int64_t below = 0;
      for (size_t k = 0; k < h.bounds().size(); ++k) {
        below += h.count(k);
        sample(cat(full, "_bucket"), labels, cat(",le=\"", h.bounds()[k], "\""), static_cast<double>(below));
      }
      below += h.count(h.bounds().size());
      sample(cat(full, "_bucket"), labels, ",le=\"+Inf\"", static_cast<double>(below));
      sample(cat(full, "_sum"), labels, "", h.sum());
      sample(cat(full, "_count"), labels, "", static_cast<double>(below));
    });
  }
  std::string take() { return std::move(out_); }

 private:
  template <typename Body>
  void family(Names names, std::string_view type, std::string_view name, std::string_view help, Body body) {
    for (const Names one : {Names::kHearth, Names::kVllm}) {
      if (names != Names::kBoth && names != one) continue;
      const std::string full = cat(one == Names::kHearth ? "hearth:" : "vllm:", name);
      head(full, type, help);
      for (size_t i = 0; i < labels_.size(); ++i) body(full, labels_[i], i);
    }
  }
  void head(std::string_view full, std::string_view type, std::string_view help) {
    append_all("# HELP ", full, " ", help, "\n# TYPE ", full, " ", type, "\n");
  }
  void sample(std::string_view name, std::string_view labels, std::string_view more_labels, double v) {
    append_all(name, "{", labels, more_labels, "} ", v, "\n");
  }
  template <typename... Args>
  void append_all(const Args&... args) {
    (append(out_, args), ...);
  }

  const std::string_view model_label_;
  std::vector<std::string> labels_;  // of each replica
  std::string out_;
};

std::string model_label(std::string_view name) {
  std::string out = "model_name=";
  append_json_string(out, name);  // the same escapes, for names without control characters
  return out;
}

}  // namespace

void Histogram::observe(double value, int64_t times) {
  const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  counts_[static_cast<size_t>(bucket)] += times;
  sum_ += value * static_cast<double>(times);
}

Histogram::Histogram(const std::map<int64_t, int64_t>& counts, double sum) : sum_(sum) {
  constexpr int64_t kMost = 1 << 20;
  for (int64_t bound = 1; bound <= kMost; bound *= 2) {
    const auto found = counts.find(bound);
    bounds_.push_back(static_cast<double>(bound));
    counts_.push_back(found == counts.end() ? 0 : found->second);
  }
  counts_.push_back(0);
  for (auto beyond = counts.upper_bound(kMost); beyond != counts.end(); ++beyond) counts_.back() += beyond->second;
}

Metrics::Requests::Requests()
    : time_to_first_token(decades(0.001, 1000)),
      inter_token(decades(0.001, 100)),
      time_per_output_token(decades(0.001, 100)),
      e2e(decades(0.01, 1000)),
      queue(decades(0.001, 1000)),
      prefill(decades(0.001, 1000)),
      decode(decades(0.001, 1000)),
      inference(decades(0.001, 1000)),
      prompt_tokens(decades(1, 200000)),
      generation_tokens(decades(1, 200000)),
      finished{{"stop", 0}, {"length", 0}, {"abort", 0}, {"error", 0}} {}

Metrics::Metrics(std::string_view model_name, int64_t replicas)
    : model_label_(model_label(model_name)), requests_(static_cast<size_t>(replicas)) {}

void Metrics::first_token(int64_t replica, Duration since_arrival) {
  of(replica).time_to_first_token.observe(seconds(since_arrival));
}

void Metrics::next_tokens(int64_t replica, Duration since_last, int64_t count) {
  of(replica).inter_token.observe(seconds(since_last) / static_cast<double>(count), count);
}

void Metrics::finished(const Finished& request) {
  Requests& r = of(request.replica);
  ++r.finished.find(request.reason)->second;
  r.e2e.observe(seconds(request.since_arrival));
  r.prompt_tokens.observe(static_cast<double>(request.prompt_tokens));
  r.generation_tokens.observe(static_cast<double>(request.completion_tokens));
  if (request.since_scheduled) {
    r.queue.observe(seconds(request.since_arrival - *request.since_scheduled));
    r.inference.observe(seconds(*request.since_scheduled));
  }
  if (!request.since_first_token) return;
  r.decode.observe(seconds(*request.since_first_token));
  if (request.since_scheduled) r.prefill.observe(seconds(*request.since_scheduled - *request.since_first_token));
  if (request.completion_tokens > 1) {
    r.time_per_output_token.observe(seconds(*request.since_first_token) /
                                    static_cast<double>(request.completion_tokens - 1));
  }
}

std::string Metrics::render(const std::vector<EngineStats>& stats, const std::vector<Status>& health,
                            int64_t block_size) const {
  HEARTH_CHECK(stats.size() == requests_.size() && health.size() == requests_.size());
  Page page(model_label_, requests_.size());
  const auto of = [&](auto EngineStats::*member) { return [&stats, member](size_t i) { return stats[i].*member; }; };
  const auto share = [](int64_t used, int64_t total) {
    return total > 0 ? static_cast<double>(used) / static_cast<double>(total) : 0.0;
  };
  page.value(
      "gauge", "replica_up", "1: the replica serves; 0: its device failed.",
      [&](size_t i) { return health[i].ok() ? 1 : 0; }, Names::kHearth);
  page.summed("gauge", "num_requests_running", "Requests in the running batch.", of(&EngineStats::running));
  page.summed("gauge", "num_requests_waiting", "Requests waiting to be run.", of(&EngineStats::waiting));
  const std::string_view usage = "Share of KV blocks in use; 1 is full.";
  page.value("gauge", "kv_cache_usage_perc", usage,
             [&](size_t i) { return share(stats[i].blocks_used, stats[i].blocks_total); });
  int64_t used = 0, total = 0;
  for (const EngineStats& one : stats) used += one.blocks_used, total += one.blocks_total;
  page.server("gauge", "kv_cache_usage_perc", usage, share(used, total));
  page.summed("counter", "prompt_tokens_total", "Prompt tokens computed.", of(&EngineStats::prompt_tokens));
  page.summed("counter", "generation_tokens_total", "Tokens generated.", of(&EngineStats::generation_tokens));
  page.summed("counter", "num_preemptions_total", "Sequences preempted.", of(&EngineStats::preemptions));
  page.summed("counter", "prefix_cache_queries_total", "Prompt tokens looked up.", of(&EngineStats::prefix_queries));
  page.summed("counter", "prefix_cache_hits_total", "Prompt tokens found.", of(&EngineStats::prefix_hits));
  page.summed("counter", "latency_refusals_total", "Requests refused because a latency target could not be kept.",
              of(&EngineStats::latency_refusals), Names::kHearth);
  page.summed("counter", "gpu_busy_seconds_total", "Time of the GPU in steps.", of(&EngineStats::device_busy_seconds),
              Names::kHearth);
  page.summed("counter", "gpu_idle_seconds_total", "Time of the GPU between steps while there were requests.",
              of(&EngineStats::device_idle_seconds), Names::kHearth);
  page.labelled(
      "counter", "request_success_total", "Requests ended, by reason.",
      "finished_reason", [&](size_t i) -> const auto& { return requests_[i].finished; });
  const auto histogram = [&](std::string_view name, std::string_view help, Histogram Requests::*member,
                             Names names = Names::kBoth) {
    page.histogram(
        name, help, [&](size_t i) -> const Histogram& { return requests_[i].*member; }, names);
  };
  histogram("time_to_first_token_seconds", "From arrival to the first token.", &Requests::time_to_first_token);
  histogram("inter_token_latency_seconds", "Between a request's tokens.", &Requests::inter_token);
  histogram("time_per_output_token_seconds", "Between a request's tokens: vLLM's older name for it.",
            &Requests::inter_token, Names::kVllm);
  histogram("request_time_per_output_token_seconds", "A request's mean time per token after the first.",
            &Requests::time_per_output_token);
  histogram("e2e_request_latency_seconds", "From arrival to the last token.", &Requests::e2e);
  histogram("request_queue_time_seconds", "From arrival to the first step that computes it.", &Requests::queue);
  histogram("request_prefill_time_seconds", "From that step to the first token.", &Requests::prefill);
  histogram("request_decode_time_seconds", "From the first token to the last.", &Requests::decode);
  histogram("request_inference_time_seconds", "From the first step to the last token.", &Requests::inference);
  histogram("request_prompt_tokens", "Prompt tokens of a request.", &Requests::prompt_tokens);
  histogram("request_generation_tokens", "Generated tokens of a request.", &Requests::generation_tokens);
  page.histogram("iteration_tokens_total", "Tokens computed in a step.", [&](size_t i) {
    return Histogram(stats[i].tokens_per_step, static_cast<double>(stats[i].step_tokens));
  });
  page.histogram(
      "step_time_error_percent", "By how much predictions of a step's time were off.",
      [&](size_t i) { return Histogram(stats[i].step_time_errors, stats[i].step_time_error_sum); }, Names::kHearth);
  page.labelled("gauge", "cache_config_info", "The KV cache's shape.",
                cat("block_size=\"", block_size, "\",num_gpu_blocks"), [&](size_t i) {
                  return std::map<std::string, int64_t>{{std::to_string(stats[i].blocks_total), 1}};
                });
  return page.take();
}

}  // namespace hearth
