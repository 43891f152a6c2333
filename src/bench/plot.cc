// Results files in, charts out.
#include "bench/plot.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "base/json.h"
#include "bench/line_chart.h"
#include "bench/winner.h"

namespace hearth {
namespace {

// A run's median latencies by rate, and what it was a run of.
struct Run {
  Series total, token;
  std::string conditions;
};

// Empty: no loads of ours. Throws where a field is missing or of another type.
std::optional<Run> read_run(const std::string& label, const Json& loads) {
  Run out{{label, {}, {}}, {label, {}, {}}, {}};
  for (const Json& load : loads) {
    if (!load.is_object()) return std::nullopt;
    if (!load.contains("rate")) continue;  // requests sent one at a time
    const auto median = [&](const char* of) { return load.at(of).at("p50").get<double>(); };
    const double rate = load.at("rate").get<double>(), total = median("total_s");
    const double token_ms = load.contains("tpot_s") ? median("tpot_s") * 1e3 : median("tpot_ms");
    if (std::min({rate, total, token_ms}) < 0) return std::nullopt;
    out.total.points.push_back({rate, total});
    out.token.points.push_back({rate, token_ms});
    // In a closed loop the rate is a result; what was asked for is how many are under way.
    const int64_t under_way = load.value("concurrency", int64_t{0});
    const std::string point_label = under_way > 0 ? cat(under_way, " at once") : std::string();
    out.total.labels.push_back(point_label);
    out.token.labels.push_back(point_label);
  }
  return out;
}

// "mixtral, 1 x H200, 1000 tokens in, 50 out, 2026-12-01": what the file says of it.
std::string conditions_of(const Json& file) {
  std::string out;
  const auto add = [&out](const std::string& text) {
    if (!text.empty()) out += cat(out.empty() ? "" : ", ", text);
  };
  const auto text = [&file](const char* name) {
    const auto at = file.find(name);
    return at != file.end() && at->is_string() ? at->get<std::string>() : std::string();
  };
  const auto tokens = [&file](const char* name, const char* unit) {
    const auto at = file.find(name);
    return at != file.end() && at->is_number_integer() ? cat(at->get<int64_t>(), unit) : std::string();
  };
  add(text("model"));
  add(text("machine"));
  if (text("input_tokens") == "dataset") add("a dataset's lengths");
  add(tokens("input_tokens", " tokens in"));
  add(tokens("output_tokens", " out"));
  add(text("date"));
  return out;
}

// What all have in common stands under the title; what they do not, in the legend.
std::string place_conditions(std::vector<Run>& runs) {
  if (runs.empty()) return {};
  const auto same = [&](const Run& run) { return run.conditions == runs.front().conditions; };
  if (std::ranges::all_of(runs, same)) return runs.front().conditions;
  for (Run& run : runs) {
    if (run.conditions.empty()) continue;
    run.total.name += cat(" (", run.conditions, ")");
    run.token.name = run.total.name;
  }
  return {};
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
      run->conditions = conditions_of(*parsed);
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
                 const std::string& prefix, bool best) {
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
  const std::string conditions = place_conditions(drawn);
  LineChart total{"Latency of a request against load", "requests/s", "median total latency, s", {}, conditions};
  LineChart token{"Latency of a token against load", "requests/s", "median time per output token, ms", {}, conditions};
  for (Run& run : drawn) {
    total.series.push_back(std::move(run.total));
    token.series.push_back(std::move(run.token));
  }
  if (best) {
    for (LineChart* chart : {&total, &token}) chart->series.push_back(winner(chart->series));
  }
  for (const auto& [name, chart] : {std::pair("-latency", &total), std::pair("-token-latency", &token)}) {
    HEARTH_TRY(write_file(cat(prefix, name, ".svg"), svg(*chart)));
    if (const std::string image = png(*chart); !image.empty()) {
      HEARTH_TRY(write_file(cat(prefix, name, ".png"), image));
    }
  }
  return {};
}

}  // namespace hearth
