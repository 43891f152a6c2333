// `hearth bench serve`: a sweep of loads on one server, a table on the terminal, records and plots in files.
#pragma once

#include <string>
#include <vector>

#include "bench/report.h"

namespace hearth {

struct BenchServeOptions {
  std::string url = "http://127.0.0.1:8000";
  TlsTrust trust;
  std::string model, api_key;          // model: empty asks the server
  std::string label = "hearth";        // the run's name in a plot
  std::string machine;                 // what serves, for the plots; empty: what the server says
  std::vector<double> rates;           // open loop, requests a second
  std::vector<int64_t> concurrencies;  // closed loop; used where `rates` is empty
  int64_t input_tokens = 1000, output_tokens = 50;
  std::string dataset;         // ShareGPT's JSON; replaces the fixed lengths
  bool random_ids = false;     // of a dataset the lengths alone: for servers whose tokenizer is not the model's
  int64_t vocab_size = 32000;  // random prompts draw ids from [5, vocab_size)
  double seconds = 25, warm_up = 4;
  double stop_at = 6;  // the sweep ends after the first median total latency past this
  std::vector<double> cutoffs = {1.0, 1.2, 1.6, 2.0, 3.0};
  Budgets budgets;
  uint64_t seed = 7;
  std::string output;                // prefix: OUTPUT.json and plot_runs()'s files; empty: the table alone
  std::vector<std::string> compare;  // .json files of earlier runs, drawn beside this one
  bool best = false;                 // draw the best of all at each load, too
};

// Prints the table to stdout, progress to stderr where that is a terminal. The first error ends it, and so does a load
// that lost every request.
Status bench_serve(const BenchServeOptions& options);

}  // namespace hearth
