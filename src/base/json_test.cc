#include "base/json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

namespace hearth {
namespace {

std::string refusal(std::string_view text) {
  auto parsed = parse_json(text);
  return parsed.ok() ? "accepted" : parsed.status().message();
}

TEST(Json, KeepsValuesAndOrder) {
  auto parsed = parse_json(R"({"b": [1, -2, 2.5, "x\u00e9", null, true], "a": {"c": {}}})");
  ASSERT_TRUE(parsed.ok()) << parsed.status().message();
  EXPECT_EQ(parsed->dump(), "{\"b\":[1,-2,2.5,\"x\xC3\xA9\",null,true],\"a\":{\"c\":{}}}");
}

TEST(Json, RefusesWhatAttackersSend) {
  EXPECT_EQ(refusal(""), "JSON: syntax error at byte 1");
  EXPECT_EQ(refusal("{\"a\": 1"), "JSON: syntax error at byte 8");
  EXPECT_EQ(refusal("[1]"), "JSON: the root must be an object");
  EXPECT_EQ(refusal("3"), "JSON: the root must be an object");
  EXPECT_EQ(refusal(R"({"a":1,"a":2})"), "JSON: duplicate key");
  EXPECT_EQ(refusal(R"({"a":NaN})"), "JSON: syntax error at byte 6");
  EXPECT_EQ(refusal(R"({"a":1e999})"), "JSON: number out of range at byte 10");
  EXPECT_EQ(refusal(R"({"a":"\ud800"})"), "JSON: syntax error at byte 13");
  EXPECT_EQ(refusal("{\"a\":\"\xC3\x28\"}"), "JSON: syntax error at byte 8");
  EXPECT_EQ(refusal(std::string_view("{\"a\":1}\0", 8)), "JSON: syntax error at byte 8");
  EXPECT_EQ(refusal("\xEF\xBB\xBF{}"), "JSON: byte order mark at byte 1");
  EXPECT_EQ(refusal("{} {}"), "JSON: syntax error at byte 4");
}

TEST(Json, DepthAndCountAreBounded) {
  std::string deep = "{\"a\":";
  deep.append(100'000, '[');
  EXPECT_EQ(refusal(deep), "JSON: nested too deep");
  JsonLimits limits;
  limits.max_values = 3;
  EXPECT_EQ(parse_json(R"({"a":[1,2,3]})", limits).status().message(), "JSON: too many values");
}

TEST(Json, MemoryIsBounded) {
  const auto parse_many = [&](std::string_view one, int64_t count) {
    int64_t bytes_left = 1 << 20;
    std::string text = "{\"a\":[";
    for (int64_t i = 0; i < count; ++i) append(text, cat(i ? "," : "", one));
    return parse_json(text + "]}", {.bytes_left = &bytes_left}).status().message();
  };
  const std::string refused = "JSON: too many values";
  EXPECT_EQ(parse_many("1", 40'000), "");
  EXPECT_EQ(parse_many("1", 50'000), refused);
  EXPECT_EQ(parse_many("\"\"", 10'000), "");
  EXPECT_EQ(parse_many("\"\"", 20'000), refused);
  EXPECT_EQ(parse_many("{}", 10'000), "");
  EXPECT_EQ(parse_many("{}", 20'000), refused);
  EXPECT_EQ(parse_many("{\"role\":\"user\",\"content\":\"\"}", 1500), "");
  EXPECT_EQ(parse_many("{\"role\":\"user\",\"content\":\"\"}", 4000), refused);
  EXPECT_EQ(parse_many(cat('"', std::string(1 << 20, 'a'), '"'), 1), refused);
}

TEST(Json, ManyKeysAreReadInLinearTime) {
  std::string text = "{";
  for (int i = 0; i < 200'000; ++i) append(text, cat(i ? "," : "", "\"k", i, "\":", i));
  auto parsed = parse_json(text + "}");
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->size(), 200'000u);
}

}  // namespace
}  // namespace hearth
