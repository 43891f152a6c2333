// Results files in, charts out.
#include "bench/plot.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "base/json.h"
#include "bench/line_chart.h"

namespace hearth {
namespace {

// A run's median latencies by rate.
struct Run {
  Series total, token;
};

// Empty: no loads of ours. Throws where a field is missing or of another type.
std::optional<Run> read_run(const std::string& label, const Json& loads) {
  Run out{{label, {}}, {label, {}}};
  for (const Json& load : loads) {
    if (!load.is_object()) return std::nullopt;
    if (!load.contains("rate")) continue;  // requests sent one at a time
    const auto median = [&](const char* of) { return load.at(of).at("p50").get<double>(); };
    const double rate = load.at("rate").get<double>(), total = median("total_s");
    const double token_ms = load.contains("tpot_s") ? median("tpot_s") * 1e3 : median("tpot_ms");
    if (std::min({rate, total, token_ms}) < 0) return std::nullopt;
    out.total.points.push_back({rate, total});
    out.token.points.push_back({rate, token_ms});
  }
  return out;
}

Result<std::vector<Run>> read_runs(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return Status(Code::kNotFound, cat(path, ": cannot be read"));
  std::stringstream text;
  text << file.rdbuf();
  const auto parsed = parse_json(text.view());
  if (!parsed.ok()) return parsed.status().prefixed(path);
  std::vector<Run> out;
  const Status not_ours = invalid(path, ": not a file of bench serve");
  try {
    std::vector<std::pair<std::string, const Json*>> runs;
    if (parsed->contains("loads")) {
      runs.emplace_back(parsed->at("label").get<std::string>(), &parsed->at("loads"));
    } else {
      for (const auto& [label, loads] : parsed->items()) {
        if (loads.is_array()) runs.emplace_back(label, &loads);
      }
    }
    for (const auto& [label, loads] : runs) {
      std::optional<Run> run = read_run(label, *loads);
      if (!run) return not_ours;
      out.push_back(std::move(*run));
    }
  } catch (const nlohmann::json::exception&) {
    return not_ours;
  }
  if (out.empty()) return not_ours;
  return out;
}

}  // namespace

Status write_file(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  return file ? Status() : Status(Code::kUnavailable, cat(path, ": cannot be written"));
}

Status plot_runs(const std::vector<std::string>& files, const std::vector<std::string>& labels,
                 const std::string& prefix) {
  std::vector<Run> runs;
  for (const std::string& file : files) {
    HEARTH_ASSIGN(std::vector<Run> more, read_runs(file));
    std::ranges::move(more, std::back_inserter(runs));
  }
  std::vector<Run> drawn = labels.empty() ? runs : std::vector<Run>();
  for (const std::string& label : labels) {
    const auto run = std::ranges::find(runs, label, [](const Run& r) { return r.total.name; });
    if (run == runs.end()) return Status(Code::kNotFound, cat("no run is labelled ", label));
    drawn.push_back(*run);
  }
  LineChart total{"Latency of a request against load", "requests/s", "median total latency, s", {}};
  LineChart token{"Latency of a token against load", "requests/s", "median time per output token, ms", {}};
  for (Run& run : drawn) {
    total.series.push_back(std::move(run.total));
    token.series.push_back(std::move(run.token));
  }
  for (const auto& [name, chart] : {std::pair("-latency", &total), std::pair("-token-latency", &token)}) {
    HEARTH_TRY(write_file(cat(prefix, name, ".svg"), svg(*chart)));
    HEARTH_TRY(write_file(cat(prefix, name, ".png"), png(*chart)));
  }
  return {};
}

}  // namespace hearth
