#include "api/json_writer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <random>

#include "base/json.h"
#include "text/utf8.h"

namespace hearth {
namespace {

TEST(JsonWriter, Structure) {
  std::string out;
  JsonWriter w(out);
  w.begin_object().field("a", 1).field("b", "x").key("c").begin_array().value(1.5).value(true).null().begin_object();
  w.end_object().end_array().field("d", int64_t{-7}).end_object();
  EXPECT_EQ(out, R"({"a":1,"b":"x","c":[1.5,true,null,{}],"d":-7})");
}

TEST(JsonWriter, NumbersThatJsonCannotHold) {
  for (const float bad : {INFINITY, -INFINITY, NAN}) {
    std::string out;
    JsonWriter(out).value(bad);
    EXPECT_EQ(out, "-9999.0");
  }
}

TEST(JsonWriter, FloatsComeBackTheSame) {
  std::mt19937 random(1);
  for (int i = 0; i < 1000; ++i) {
    const float value = -std::exp(std::uniform_real_distribution<float>(-20, 5)(random));
    std::string out = "[";
    JsonWriter(out).value(value);
    EXPECT_EQ(parse_json(out + "]", {.root_must_be_object = false}).value()[0].get<float>(), value);
  }
}

TEST(JsonWriter, AnyBytesBecomeValidJson) {
  std::mt19937 random(2);
  for (int i = 0; i < 2000; ++i) {
    std::string bytes;
    for (int n = std::uniform_int_distribution(0, 12)(random); n > 0; --n) {
      // Mostly lead and continuation bytes, quotes and controls.
      const int kind = std::uniform_int_distribution(0, 3)(random);
      bytes += static_cast<char>(kind == 0   ? std::uniform_int_distribution(0xC0, 0xFF)(random)
                                 : kind == 1 ? std::uniform_int_distribution(0x80, 0xBF)(random)
                                 : kind == 2 ? "\"\\\n\t\x01\x7f"[std::uniform_int_distribution(0, 5)(random)]
                                             : std::uniform_int_distribution(0, 0x7F)(random));
    }
    std::string out;
    append_json_string(out, bytes);
    const auto parsed = parse_json(cat("[", out, "]"), {.root_must_be_object = false});
    ASSERT_TRUE(parsed.ok()) << out;
    EXPECT_EQ(parsed.value()[0].get<std::string>(), replace_broken_utf8(bytes));
  }
}

}  // namespace
}  // namespace hearth
