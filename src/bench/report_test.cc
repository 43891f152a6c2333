#include "bench/report.h"

#include <gtest/gtest.h>

namespace hearth {
namespace {

RequestRecord record(double due, double first, double last, int64_t tokens) {
  RequestRecord r;
  r.due = due;
  r.first = first;
  r.last = last;
  r.output_tokens = tokens;
  return r;
}

TEST(Report, PercentilesAreNearestRank) {
  std::vector<double> values;
  for (int i = 100; i >= 1; --i) values.push_back(i);
  const Percentiles p = percentiles(values);
  EXPECT_EQ(p.p50, 50);
  EXPECT_EQ(p.p90, 90);
  EXPECT_EQ(p.p99, 99);
  EXPECT_EQ(p.mean, 50.5);
  EXPECT_EQ(percentiles({7}).p99, 7);
  EXPECT_EQ(percentiles({}).p50, 0);
}

TEST(Report, LostRequestsCountAndNeverFlatter) {
  LoadOptions options;
  options.rate = 2;
  options.warm_up = 1;
  options.seconds = 2;
  std::vector<RequestRecord> records = {record(1, 1.1, 1.5, 5), record(2, 2.2, 3.5, 5), record(2.5, 0, 0, 0)};
  records[2].error = "status 500";
  Budgets budgets;
  budgets.ttft = 0.15;
  const LoadSummary s = summarize(options, records, budgets);
  EXPECT_EQ(s.requests, 3);
  EXPECT_DOUBLE_EQ(s.offered, 2);
  EXPECT_DOUBLE_EQ(s.rate, 1.5);  // that came, in two seconds
  EXPECT_EQ(s.lost, 1);
  EXPECT_EQ(s.first_error, "status 500");
  EXPECT_DOUBLE_EQ(s.finished_per_second, 0.5);  // the second ends after the counted time
  EXPECT_DOUBLE_EQ(s.goodput, 0.5);
  EXPECT_NEAR(s.tpot.p50, 0.1, 1e-12);
  EXPECT_NEAR(s.total.p90, 1.5, 1e-12);
}

TEST(Report, CutoffLiesBetweenMeasuredPoints) {
  const auto point = [](double rate, double latency, int64_t lost = 0) {
    LoadSummary s;
    s.rate = rate;
    s.requests = 10;
    s.lost = lost;
    s.total.p50 = latency;
    return s;
  };
  const std::vector<LoadSummary> points = {point(4, 0.5), point(8, 1.0), point(12, 3.0), point(16, 0.1, 5)};
  EXPECT_DOUBLE_EQ(rate_at_cutoff(points, 2.0)->rate, 10.0);
  EXPECT_DOUBLE_EQ(rate_at_cutoff(points, 1.0)->rate, 8.0);
  EXPECT_FALSE(rate_at_cutoff(points, 0.2).has_value());
  EXPECT_FALSE(rate_at_cutoff(points, 5.0)->bounded);
}

}  // namespace
}  // namespace hearth
