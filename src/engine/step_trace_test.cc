#include "engine/step_trace.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "base/json.h"

namespace hearth {
namespace {

using std::chrono::milliseconds;

struct TraceFile {
  std::string path = testing::TempDir() + "hearth_step_trace_test.json";
  ~TraceFile() { std::filesystem::remove(path); }
  std::string text() const {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }
};

StepPlan plan_of(int64_t step, size_t tokens, size_t sequences) {
  StepPlan plan;
  plan.step = step;
  plan.token_ids.resize(tokens);
  plan.sequences.resize(sequences);
  return plan;
}

TEST(StepTrace, PutsTheDevicesStepsOnTheHostsClock) {
  TraceFile file;
  {
    const auto trace = StepTrace::open(file.path).value();
    trace->host("schedule", milliseconds(100), milliseconds(101));
    trace->device(plan_of(1, 7, 1), {0.010, 3}, milliseconds(113));      // seen 1 ms late, as far as one can know
    trace->device(plan_of(2, 300, 2), {0.010, 0}, milliseconds(122));    // at once
    trace->device(plan_of(3, 2, 2), {0.010, 0.005}, milliseconds(150));  // very late
  }
  const auto parsed = parse_json(file.text(), {.root_must_be_object = false});
  ASSERT_TRUE(parsed.ok()) << file.text();
  std::map<std::string, Json> events;
  for (const Json& event : *parsed) events[event.at("name").get<std::string>()] = event;
  const auto span = [&](const char* name) {
    const Json& event = events.at(name);
    EXPECT_EQ(event.at("ph").get<std::string>(), "X");
    const double begin = event.at("ts").get<double>();
    return std::pair(begin, begin + event.at("dur").get<double>());
  };
  EXPECT_NEAR(span("schedule").first, 100e3, 1e-3);
  EXPECT_NEAR(span("schedule").second, 101e3, 1e-3);
  EXPECT_NEAR(span("7 tokens").second, 113e3, 1e-3);
  EXPECT_NEAR(span("300 tokens").first, 112e3, 1e-3);
  EXPECT_NEAR(span("300 tokens").second, 122e3, 1e-3);
  EXPECT_NEAR(span("2 tokens").first, 127e3, 5);  // and what the clocks may have drifted apart since
  EXPECT_NEAR(span("2 tokens").second, 137e3, 5);
  EXPECT_EQ(events.at("300 tokens").at("args").at("step").get<int>(), 2);
  EXPECT_EQ(events.at("300 tokens").at("args").at("sequences").get<int>(), 2);
  EXPECT_NE(events.at("schedule").at("tid"), events.at("7 tokens").at("tid"));
}

TEST(StepTrace, HasABound) {
  TraceFile file;
  {
    const auto trace = StepTrace::open(file.path, 10'000).value();
    for (int i = 0; i < 1000; ++i) trace->host("wait", milliseconds(i), milliseconds(i + 1));
  }
  EXPECT_TRUE(parse_json(file.text(), {.root_must_be_object = false}).ok());
  EXPECT_GT(file.text().size(), 10'000u);
  EXPECT_LT(file.text().size(), 11'000u);
}

TEST(StepTrace, RefusesAFileThatCannotBeWritten) {
  const auto trace = StepTrace::open(testing::TempDir());
  ASSERT_FALSE(trace.ok());
  EXPECT_EQ(trace.status().code(), Code::kUnavailable);
  EXPECT_EQ(StepTrace::open("/dev/full").status().code(), Code::kUnavailable);
}

}  // namespace
}  // namespace hearth
