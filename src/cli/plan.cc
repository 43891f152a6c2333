// `hearth plan`: a table, a plot, GPUs for a rate, cost of a million tokens. No GPU needed.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "base/log.h"
#include "bench/line_chart.h"
#include "bench/plot.h"
#include "bench/winner.h"
#include "cli/commands.h"
#include "models/registry.h"
#include "sim/plan.h"

namespace hearth {
namespace {

Result<PlanShape> find_shape(const std::string& model) {
  const auto& known = StepTables::built_in().shapes();
  if (const auto at = known.find(model); at != known.end()) return at->second;
  auto opened = open_model(model, LoadFormat::kDummy);
  if (!opened.ok()) {
    std::string names;
    for (const auto& [name, shape] : known) names += cat(names.empty() ? "" : ", ", name);
    return opened.status().prefixed(cat("plan takes ", names, " or a model"));
  }
  HEARTH_ASSIGN(PlanShape shape, shape_of(opened->config));
  for (const auto& [name, other] : known) {
    if (other == shape) return other;
  }
  return shape;
}

std::string layout(const PlanRow& row) {
  return cat(row.replicas, " x ", row.tensor_parallel, row.tensor_parallel == 1 ? " GPU" : " GPUs");
}

// Of input and output together.
double per_million(const PlanCommand& command, double rate) {
  const double tokens = rate * static_cast<double>(command.options.input_tokens + command.options.output_tokens);
  return command.price * static_cast<double>(command.options.gpus) / 3600 / tokens * 1e6;
}

void print_table(const PlanCommand& command, const std::vector<PlanRow>& rows) {
  std::printf("%-10s %-6s %-6s %9s %13s %13s %12s  %s\n", "replicas", "dtype", "step", "alone, s", "median, /s",
              "99% kept, /s", command.price > 0 ? "$/M tokens" : "", "step times");
  const PlanRow* best = best_row(rows);
  for (const PlanRow& row : rows) {
    std::printf("%-10s %-6s %-6lld ", layout(row).c_str(), row.precision.c_str(),
                static_cast<long long>(row.step_tokens));
    if (!row.fits) {
      std::printf("%9s\n", "does not fit");
      continue;
    }
    std::printf("%9.3f ", row.alone);
    if (row.at_median <= 0) {
      std::printf("%13s\n", "never");
      continue;
    }
    std::printf("%13.1f %13.1f ", row.at_median, row.kept);
    command.price > 0 ? std::printf("%12.3f ", per_million(command, row.at_median)) : std::printf("%12s ", "");
    std::printf(" %s%s\n", row.measured ? "measured" : "estimated", &row == best ? "  <- most requests" : "");
  }
}

void print_rate(const PlanCommand& command, const std::vector<PlanRow>& rows) {
  const PlanRow* cheapest = nullptr;
  int64_t fewest = 0;
  for (const PlanRow& row : rows) {
    if (row.at_median <= 0) continue;
    const double of_one = row.at_median / static_cast<double>(row.replicas);
    const int64_t gpus = static_cast<int64_t>(std::ceil(command.rate / of_one)) * row.tensor_parallel;
    if (cheapest != nullptr && gpus >= fewest) continue;
    cheapest = &row;
    fewest = gpus;
  }
  if (cheapest == nullptr) return;
  std::printf("\n%g requests/s need %lld GPUs: %lld replicas of %lld, %s, steps of %lld tokens\n", command.rate,
              static_cast<long long>(fewest), static_cast<long long>(fewest / cheapest->tensor_parallel),
              static_cast<long long>(cheapest->tensor_parallel), cheapest->precision.c_str(),
              static_cast<long long>(cheapest->step_tokens));
}

Status draw(const PlanCommand& command, const std::vector<PlanRow>& rows) {
  const PlanOptions& o = command.options;
  LineChart chart{"Latency of a request against load, planned",
                  "requests/s",
                  "median total latency, s",
                  {},
                  cat(o.shape.name, ", ", o.gpus, " x ", StepTables::built_in().gpus().at(o.gpu).name, ", ",
                      o.input_tokens, " tokens in, ", o.output_tokens, " out, simulated")};
  for (const PlanRow& row : rows) {
    if (row.curve.empty()) continue;
    Series series{cat(layout(row), ", ", row.precision, ", steps of ", row.step_tokens), {}};
    for (const auto& [rate, latency] : row.curve) series.points.push_back({rate, latency});
    chart.series.push_back(std::move(series));
  }
  chart.series.push_back(winner(chart.series));
  HEARTH_TRY(write_file(command.output + ".svg", svg(chart)));
  return write_file(command.output + ".png", png(chart));
}

}  // namespace

int plan_command(PlanCommand command) {
  PlanOptions& options = command.options;
  auto shape = find_shape(command.model);
  if (!shape.ok()) {
    log_error(shape.status().message());
    return 1;
  }
  options.shape = std::move(shape).value();
  std::printf("%s on %lld x %s, %lld tokens in and %lld out, a total of %g s\n", options.shape.name.c_str(),
              static_cast<long long>(options.gpus), StepTables::built_in().gpus().at(options.gpu).name.c_str(),
              static_cast<long long>(options.input_tokens), static_cast<long long>(options.output_tokens),
              options.target_latency);
  std::printf(
      "simulated with the server's scheduler and latency policy; estimated: from floors and measured shares of "
      "them\n\n");
  std::fflush(stdout);
  const std::vector<PlanRow> rows = make_plan(options);
  print_table(command, rows);
  if (best_row(rows) == nullptr) {
    std::printf("\nno configuration keeps the target\n");
  } else if (command.rate > 0) {
    print_rate(command, rows);
  }
  if (!command.output.empty() && best_row(rows) != nullptr) {
    if (const Status status = draw(command, rows); !status.ok()) {
      log_error(status.message());
      return 1;
    }
  }
  return 0;
}

}  // namespace hearth
