// Random and damaged schemas, expressions and grammars: each is compiled or refused in one line, and nothing else
// happens.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "base/json.h"
#include "grammar/test_vocabulary.h"

namespace hearth {
namespace {

using Kind = GrammarSpec::Kind;

class Fuzz : public testing::Test {
 protected:
  size_t below(size_t n) { return random_() % n; }
  template <size_t N>
  std::string pick(const char* const (&of)[N]) {
    return of[below(N)];
  }
  void compile(Kind kind, const std::string& text) {
    auto grammar = compiler_->compile({kind, text});
    if (!grammar.ok()) {
      ++refused_;
      EXPECT_EQ(grammar.status().code(), Code::kInvalidArgument) << text;
      EXPECT_FALSE(grammar.status().message().empty());
      return;
    }
    ++compiled_;
    // A random walk: what the mask has is accepted.
    const auto constraint = (*grammar)->start();
    const int64_t size = byte_vocabulary().size;
    std::vector<int32_t> mask(static_cast<size_t>(Constraint::mask_words(size)));
    for (int step = 0; step < 30; ++step) {
      const bool masked = constraint->fill_mask(mask);
      std::vector<int32_t> allowed;
      for (int32_t token = 0; token < kTestEnd; ++token) {
        if (!masked || (static_cast<uint32_t>(mask[static_cast<size_t>(token / 32)]) >> (token % 32) & 1) != 0)
          allowed.push_back(token);
      }
      if (allowed.empty()) return;
      ASSERT_TRUE(constraint->accept(allowed[below(allowed.size())])) << text;
    }
  }

  Json value(int depth) {
    switch (below(depth > 0 ? 9 : 6)) {
      case 0: return nullptr;
      case 1: return below(2) == 0;
      case 2: return static_cast<int64_t>(random_()) >> below(64);
      case 3: return static_cast<double>(static_cast<int64_t>(random_() >> 11)) / 1e12 - 4000;
      case 4: return pick({"", "a", "object", "string", "#", "#/$defs/a", "^a+$", "(", "date", "é\"\\"});
      case 5: return Json::array();
      case 6: return Json::array({value(depth - 1), value(depth - 1)});
      default: return schema(depth - 1);
    }
  }
  Json schema(int depth) {
    Json out = Json::object();
    for (size_t i = below(5); i > 0; --i) {
      const std::string key = pick({"type",
                                    "properties",
                                    "required",
                                    "additionalProperties",
                                    "patternProperties",
                                    "propertyNames",
                                    "items",
                                    "prefixItems",
                                    "enum",
                                    "const",
                                    "anyOf",
                                    "oneOf",
                                    "allOf",
                                    "$ref",
                                    "$defs",
                                    "minimum",
                                    "maximum",
                                    "exclusiveMinimum",
                                    "multipleOf",
                                    "minLength",
                                    "maxLength",
                                    "pattern",
                                    "format",
                                    "minItems",
                                    "maxItems",
                                    "uniqueItems",
                                    "minProperties",
                                    "maxProperties",
                                    "not",
                                    "title"});
      // Mostly what the keyword asks for, so that more than the first check is reached.
      if (key == "type" && below(4) > 0) {
        out[key] = pick({"object", "array", "string", "integer", "number", "boolean", "null"});
      } else if ((key == "properties" || key == "$defs") && below(4) > 0) {
        out[key] = {{"a", schema(depth - 1)}, {"b", schema(depth - 1)}};
      } else if ((key == "anyOf" || key == "oneOf" || key == "allOf" || key == "prefixItems") && below(4) > 0 &&
                 depth > 0) {
        out[key] = Json::array({schema(depth - 1), schema(depth - 1)});
      } else if ((key == "items" || key == "additionalProperties") && below(4) > 0 && depth > 0) {
        out[key] = schema(depth - 1);
      } else if (key == "required" && below(4) > 0) {
        out[key] = Json::array({"a"});
      } else if (key == "$ref" && below(4) > 0) {
        out[key] = pick({"#", "#/$defs/a", "#/$defs/b", "#/properties/a", "#/x"});
      } else {
        out[key] = depth > 0 ? value(depth - 1) : value(0);
      }
    }
    return out;
  }

  std::mt19937_64 random_{3};
  int compiled_ = 0, refused_ = 0;
  const std::unique_ptr<GrammarCompiler> compiler_ = make_grammar_compiler(byte_vocabulary());
};

TEST_F(Fuzz, Schemas) {
  for (int i = 0; i < 6000; ++i)
    compile(Kind::kJsonSchema, schema(3).dump(-1, ' ', false, Json::error_handler_t::replace));
  EXPECT_GT(compiled_, 300);
  EXPECT_GT(refused_, 300);
}

TEST_F(Fuzz, Expressions) {
  for (int i = 0; i < 6000; ++i) {
    std::string text;
    for (size_t k = below(9); k > 0; --k) {
      text += pick({"a",    "[a-c]", "[^x\\d]", ".",  "\\w", "(",   ")",   "|",       "*", "+", "?",  "{2}", "{1,3}",
                    "{,4}", "^",     "$",       "\\", "é",   "(?:", "(?=", "\\u00e9", "[", "]", "\"", "\n"});
    }
    compile(Kind::kRegex, text);
  }
  EXPECT_GT(compiled_, 100);
  EXPECT_GT(refused_, 300);
}

TEST_F(Fuzz, Grammars) {
  for (int i = 0; i < 12000; ++i) {
    // Mostly what refers to itself, somewhere behind a character.
    std::string text = below(2) == 0 ? "root ::= " : "x ::= \"b\" x? | \"c\" root | \"\"\nroot ::= \"a\" ";
    for (size_t k = below(12); k > 0; --k) {
      text += pick({"\"a\" ", "[a-z] ", "root ", "x ", "( ", ") ", "| ", "* ", "+ ", "? ", "{2,3} ",
                    "\nx ::= ", "\"\" ", "\"a\" ", "[^", "\"", "#c\n", "TagDispatch(", "Token(5) "});
    }
    compile(Kind::kEbnf, text);
  }
  EXPECT_GT(compiled_, 5);
  EXPECT_GT(refused_, 100);
}

}  // namespace
}  // namespace hearth
