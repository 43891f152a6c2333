// The sweep: one load after another until the latency is past use, then the cut-off table and the files.
#include "bench/bench_serve.h"

#include <unistd.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <random>

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
  std::printf("%8s %6s %5s %8s %9s | %7s %7s %7s | %7s %7s | %7s %7s | %7s %7s %7s\n", "rate", "n", "lost", "done/s",
              "tokens/s", "ttft50", "ttft90", "ttft99", "tpot50", "tpot99", "itl50", "itl99", "total50", "total90",
              "total99");
}

void print_row(const LoadSummary& s) {
  std::printf("%8.2f %6lld %5lld %8.2f %9.0f | %7.3f %7.3f %7.3f | %7.1f %7.1f | %7.1f %7.1f | %7.3f %7.3f %7.3f\n",
              s.rate, static_cast<long long>(s.requests), static_cast<long long>(s.lost), s.finished_per_second,
              s.output_tokens_per_second, s.ttft.p50, s.ttft.p90, s.ttft.p99, s.tpot.p50 * 1e3, s.tpot.p99 * 1e3,
              s.itl.p50 * 1e3, s.itl.p99 * 1e3, s.total.p50, s.total.p90, s.total.p99);
  if (!s.first_error.empty()) std::printf("%8s first error: %s\n", "", s.first_error.c_str());
  std::fflush(stdout);
}

Status save(const BenchServeOptions& options, const std::string& model, const std::vector<LoadSummary>& points,
            const Json& cutoffs) {
  Json loads = Json::array();
  for (const LoadSummary& s : points) loads.push_back(to_json(s));
  const Json document = {{"label", options.label},
                         {"model", model},
                         {"input_tokens", options.dataset.empty() ? Json(options.input_tokens) : Json("dataset")},
                         {"output_tokens", options.dataset.empty() ? Json(options.output_tokens) : Json("dataset")},
                         {"seconds", options.seconds},
                         {"seed", options.seed},
                         {"loads", loads},
                         {"rate_at_total_latency", cutoffs}};
  HEARTH_TRY(write_file(options.output + ".json", document.dump(1) + "\n"));
  std::vector<std::string> files = {options.output + ".json"};
  files.insert(files.end(), options.compare.begin(), options.compare.end());
  return plot_runs(files, {}, options.output);
}

}  // namespace

Status bench_serve(const BenchServeOptions& options) {
  HEARTH_ASSIGN(Endpoint endpoint, parse_endpoint(options.url));
  endpoint.api_key = options.api_key;
  endpoint.model = options.model;
  if (endpoint.model.empty()) {
    HEARTH_ASSIGN(endpoint.model, first_model(endpoint));
  }
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
    if (points.back().total.p50 > options.stop_at) break;
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
  return options.output.empty() ? Status() : save(options, endpoint.model, points, cutoffs);
}

}  // namespace hearth
