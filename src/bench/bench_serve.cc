// The sweep: one load after another until the latency is past use, then the cut-off table and the files.
#include "bench/bench_serve.h"

#include <unistd.h>

#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>
#include <random>

#include "base/version.h"
#include "bench/dataset.h"
#include "bench/plot.h"

namespace hearth {
namespace {

constexpr int64_t kLongestDatasetTurn = 1024;  // tokens, either side

Prompt random_prompt(const BenchServeOptions& options, int64_t index, int64_t input_tokens, int64_t output_tokens) {
  std::mt19937_64 random(options.seed * 1'000'003 + static_cast<uint64_t>(index));
  std::uniform_int_distribution<int32_t> id(5, static_cast<int32_t>(options.vocab_size) - 1);
  Prompt out;
  out.ids.resize(static_cast<size_t>(input_tokens));
  for (int32_t& token : out.ids) token = id(random);
  out.output_tokens = output_tokens;
  return out;
}

void print_header() {
  std::printf("%37s | %-23s | %-15s | %-15s | %-23s\n", "", "first token, s", "per token, ms", "between, ms",
              "whole answer, s");
  std::printf("%7s %5s %5s %8s %8s | %7s %7s %7s | %7s %7s | %7s %7s | %7s %7s %7s\n", "load/s", "sent", "lost",
              "done/s", "tokens/s", "p50", "p90", "p99", "p50", "p99", "p50", "p99", "p50", "p90", "p99");
}

void print_row(const LoadSummary& s) {
  std::printf("%7.2f %5lld %5lld %8.2f %8.0f | %7.3f %7.3f %7.3f | %7.1f %7.1f | %7.1f %7.1f | %7.3f %7.3f %7.3f\n",
              s.rate, static_cast<long long>(s.requests), static_cast<long long>(s.lost), s.finished_per_second,
              s.output_tokens_per_second, s.ttft.p50, s.ttft.p90, s.ttft.p99, s.tpot.p50 * 1e3, s.tpot.p99 * 1e3,
              s.itl.p50 * 1e3, s.itl.p99 * 1e3, s.total.p50, s.total.p90, s.total.p99);
  if (!s.first_error.empty()) std::printf("%7s the first lost: %s\n", "", s.first_error.c_str());
  std::fflush(stdout);
}

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[16];
  std::strftime(text, sizeof text, "%Y-%m-%d", &utc);
  return text;
}

Status save(const BenchServeOptions& options, const ServedModel& model, const std::vector<LoadSummary>& points,
            const Json& cutoffs) {
  Json loads = Json::array();
  for (const LoadSummary& s : points) loads.push_back(to_json(s));
  const Json document = {{"label", options.label},
                         {"model", model.name},
                         {"machine", options.machine.empty() ? model.device : options.machine},
                         {"date", today()},
                         {"version", std::string(version())},
                         {"input_tokens", options.dataset.empty() ? Json(options.input_tokens) : Json("dataset")},
                         {"output_tokens", options.dataset.empty() ? Json(options.output_tokens) : Json("dataset")},
                         {"seconds", options.seconds},
                         {"seed", options.seed},
                         {"loads", loads},
                         {"rate_at_total_latency", cutoffs}};
  HEARTH_TRY(write_file(options.output + ".json", document.dump(1) + "\n"));
  std::vector<std::string> files = {options.output + ".json"};
  files.insert(files.end(), options.compare.begin(), options.compare.end());
  HEARTH_TRY(plot_runs(files, {}, options.output, options.best));
  std::printf("written: %s.json, and the plots %s-latency.svg and %s-token-latency.svg\n", options.output.c_str(),
              options.output.c_str(), options.output.c_str());
  return {};
}

}  // namespace

Status bench_serve(const BenchServeOptions& options) {
  HEARTH_ASSIGN(Endpoint endpoint, parse_endpoint(options.url, options.trust));
  endpoint.api_key = options.api_key;
  endpoint.model = options.model;
  HEARTH_ASSIGN(const ServedModel served, served_model(endpoint));
  endpoint.model = served.name;
  std::vector<Prompt> dataset;
  if (!options.dataset.empty()) {
    HEARTH_ASSIGN(dataset, read_sharegpt(options.dataset, kLongestDatasetTurn));
  }
  int64_t offset = 0;  // no prompt is sent twice in a sweep: a prefix cache must not flatter a later load
  const auto make_prompt = [&](int64_t index) {
    const int64_t number = offset + index;
    if (dataset.empty()) return random_prompt(options, number, options.input_tokens, options.output_tokens);
    const Prompt& prompt = dataset[static_cast<size_t>(number) % dataset.size()];
    return options.random_ids ? random_prompt(options, number, tokens_of(prompt), prompt.output_tokens) : prompt;
  };
  const bool terminal = isatty(STDERR_FILENO) != 0;
  print_header();
  std::vector<LoadSummary> points;
  const size_t loads = options.rates.empty() ? options.concurrencies.size() : options.rates.size();
  for (size_t i = 0; i < loads; ++i) {
    LoadOptions load;
    load.seconds = options.seconds;
    load.warm_up = options.warm_up;
    load.seed = options.seed + i;
    if (options.rates.empty()) {
      load.concurrency = options.concurrencies[i];
    } else {
      load.rate = options.rates[i];
    }
    int64_t started = 0;
    const auto records = run_load(endpoint, load, make_prompt, [&](int64_t done, int64_t sent) {
      started = sent;
      if (terminal)
        std::fprintf(stderr, "\r%lld sent, %lld done ", static_cast<long long>(sent), static_cast<long long>(done));
    });
    if (terminal) std::fprintf(stderr, "\r%40s\r", "");
    offset += started;
    points.push_back(summarize(load, records, options.budgets));
    print_row(points.back());
    if (points.back().requests > 0 && points.back().lost == points.back().requests) {
      return Status(Code::kUnavailable, cat("every request was lost: ", points.back().first_error));
    }
    if (points.back().total.p50 > options.stop_at) {
      std::printf("the median total latency is past --stop-at %g s: no more loads\n", options.stop_at);
      break;
    }
  }
  Json cutoffs = Json::object();
  for (double cutoff : options.cutoffs) {
    const auto reached = rate_at_cutoff(points, cutoff);
    std::printf("median total latency <= %.2f s: ", cutoff);
    if (!reached) {
      std::printf("not at the lowest load measured\n");
      continue;
    }
    std::printf("%s%.2f requests/s\n", reached->bounded ? "" : "at least ", reached->rate);
    cutoffs[cat(cutoff)] = {{"rate", reached->rate}, {"bounded", reached->bounded}};
  }
  return options.output.empty() ? Status() : save(options, served, points, cutoffs);
}

}  // namespace hearth
