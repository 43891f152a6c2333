// Plan: what a model does on so many GPUs, before anybody has them. The real scheduler and latency policy on a
// simulated clock; step times from tables that were measured, and where there are none from floors (memory and
// arithmetic) and the shares of them that the tables show.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "models/config.h"
#include "sim/load_simulation.h"

namespace hearth {

// What of a model decides how long its steps take.
struct PlanShape {
  std::string name;
  int64_t hidden = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0;
  int64_t intermediate = 0, experts = 0, experts_per_token = 0;  // no experts: dense
  int64_t vocab = 0;

  // By its sizes; the name may differ.
  bool operator==(const PlanShape& other) const;
};

// Refuses layers that are not all alike.
Result<PlanShape> shape_of(const ModelConfig& config);

class StepTables {
 public:
  // Those of this repository.
  static const StepTables& built_in();
  static Result<StepTables> parse(std::string_view json);

  struct Gpu {
    std::string name;
    double memory_gb = 0, read_tbs = 0, fp8_tflops = 0, act_tflops = 0;
  };
  const std::map<std::string, Gpu>& gpus() const { return gpus_; }
  const std::map<std::string, PlanShape>& shapes() const { return shapes_; }

  struct Times {
    StepTime step;
    bool measured = false;  // else estimated
    std::string basis;      // the table, whether measured for this or the shares' source
  };
  // `precision`: fp8 (weights and KV cache) or bf16. Steps of up to `max_tokens`.
  Times times(const std::string& gpu, const PlanShape& shape, const std::string& precision, int64_t tensor_parallel,
              int64_t max_tokens) const;
  // Tokens of KV cache that a GPU's memory leaves beside its part of the weights, of all T together; below 1: none.
  int64_t cache_tokens(const std::string& gpu, const PlanShape& shape, const std::string& precision,
                       int64_t tensor_parallel) const;

 private:
  struct Table {
    std::string gpu, shape, precision, source;
    bool composed = false;                          // of kernels' times, not of steps
    std::vector<std::pair<double, double>> points;  // tokens, microseconds without attention
  };
  const Table& closest(const std::string& gpu, const PlanShape& shape, const std::string& precision) const;
  double all_reduce_us(double tokens, const PlanShape& shape, int64_t tensor_parallel) const;

  std::map<std::string, Gpu> gpus_;
  std::map<std::string, PlanShape> shapes_;
  std::vector<Table> tables_;
  struct {
    double gpus = 0, row_bytes = 0;
    std::vector<std::pair<double, double>> rows_us;
  } all_reduce_;
};

struct PlanOptions {
  PlanShape shape;
  std::string gpu = "h100";
  int64_t gpus = 8;
  int64_t input_tokens = 1000, output_tokens = 50;
  double target_latency = 1.6;  // seconds, total
  std::vector<std::string> precisions = {"fp8", "bf16"};
  std::vector<int64_t> step_tokens = {512, 1024, 2048, 4096};
  // As `bench serve` measures a load: seconds that do not count, seconds that do; the mean of so many seeds.
  double warm_up = 10, seconds = 30;
  int64_t seeds = 1;
};

struct PlanRow {
  int64_t tensor_parallel = 1, replicas = 1;
  std::string precision;
  int64_t step_tokens = 0;
  bool fits = false;  // into the memory; else there are no figures
  bool measured = false;
  std::string basis;
  double alone = 0;      // seconds of one request
  double at_median = 0;  // requests/s, of all replicas, at which the median is the target
  double kept = 0;       // requests/s served with the target set: 99% within it, at most 1% refused
  std::vector<std::pair<double, double>> curve;  // requests/s of all replicas, median total; where asked for
};

// Of one configuration, at a rate for all its replicas; each gets its part of the arrivals.
LoadResult plan_load(const PlanOptions& options, const PlanRow& row, double rate, const LatencyTargets& targets);
// Every T x R that uses all of the GPUs, by precision and step size; the best step size of each T and precision has a
// curve.
std::vector<PlanRow> make_plan(const PlanOptions& options);
// The best, by requests/s at the median; null: nothing fits.
const PlanRow* best_row(const std::vector<PlanRow>& rows);

}  // namespace hearth
