#include "grammar/grammar_compiler.h"

#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/json.h"
#include "grammar/json_schema.h"
#include "grammar/test_vocabulary.h"

namespace hearth {
namespace {

using Kind = GrammarSpec::Kind;

class GrammarCompilerTest : public testing::Test {
 protected:
  std::shared_ptr<const Grammar> compiled(Kind kind, const std::string& text) {
    auto grammar = compiler_->compile({kind, text});
    EXPECT_TRUE(grammar.ok()) << text << ": " << grammar.status().message();
    return grammar.ok() ? *grammar : nullptr;
  }
  // The message; the refusal must come within 100 ms.
  std::string refusal(Kind kind, const std::string& text) {
    const auto begin = std::chrono::steady_clock::now();
    auto grammar = compiler_->compile({kind, text});
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(kPatience));
    if (grammar.ok()) return "";
    EXPECT_EQ(grammar.status().code(), Code::kInvalidArgument);
    return grammar.status().message();
  }
  void expect_takes(const std::shared_ptr<const Grammar>& grammar, std::initializer_list<std::string_view> good,
                    std::initializer_list<std::string_view> bad) {
    ASSERT_NE(grammar, nullptr);
    for (const auto text : good) EXPECT_TRUE(takes(*grammar, text)) << text;
    for (const auto text : bad) EXPECT_FALSE(takes(*grammar, text)) << text;
  }
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  static constexpr int kPatience = 2000;
#else
  static constexpr int kPatience = 100;
#endif
  std::unique_ptr<GrammarCompiler> compiler_ = make_grammar_compiler(byte_vocabulary());
};

TEST_F(GrammarCompilerTest, Regex) {
  expect_takes(compiled(Kind::kRegex, "^(yes|no)( [0-9]{1,3})?$"), {"yes", "no 12"}, {"", "maybe", "no ", "yes 1234"});
  expect_takes(compiled(Kind::kRegex, "[^a]b."),
               {"\xc3\xa9"
                "bc",
                "\"b\xf0\x9f\x98\x80"},
               {"abc", "xb\n", "xb"});
  expect_takes(compiled(Kind::kRegex, "\\u00e9\\.\\d*"), {"\xc3\xa9.", "\xc3\xa9.12"}, {"e.", "\xc3\xa9x"});
  expect_takes(compiled(Kind::kRegex, "a{2,}|(?:b?c)+"), {"aa", "aaaa", "c", "bcc"}, {"a", "b", ""});
}

TEST_F(GrammarCompilerTest, JsonSchema) {
  expect_takes(compiled(Kind::kJsonSchema, R"({"type":"object","properties":{"name":{"type":"string"},"age":{"type":
      "integer","minimum":0,"maximum":150}},"required":["name"]})"),
               {R"({"name": "x"})", R"({"name": "", "age": 42})", R"({"name": "\"\u00e9"})"},
               {R"({"age": 42})", R"({"name": "x", "age": 151})", R"({"name": "x", "z": 1})", "{", R"({"name": 3})"});
  expect_takes(compiled(Kind::kJsonSchema, "{}"), {"1", "null", R"({"a": [1, "x"]})", "[]"}, {"", "x", "[1"});
  expect_takes(compiled(Kind::kJsonSchema, R"({"type":"object"})"), {"{}", R"({"a": {"b": 1}})"}, {"[]", "1"});
  expect_takes(compiled(Kind::kJsonSchema, R"({"enum":["a",1,null]})"), {"\"a\"", "1", "null"}, {"\"b\"", "2"});
  expect_takes(compiled(Kind::kJsonSchema, R"({"type":"array"})"), {"[]", "[1, 2]"}, {"{}"});
  // A recursive one.
  expect_takes(
      compiled(Kind::kJsonSchema, R"({"$ref":"#/$defs/n","$defs":{"n":{"type":"object","properties":{"v":{"type":
      "integer"},"next":{"anyOf":[{"$ref":"#/$defs/n"},{"type":"null"}]}},"required":["v","next"]}}})"),
      {R"({"v": 1, "next": {"v": 2, "next": null}})"}, {R"({"v": 1})", R"({"v": 1, "next": 2})"});
}

TEST_F(GrammarCompilerTest, PatternsOfALength) {
  const auto schema = [&](const char* pattern, const char* more) {
    return compiled(Kind::kJsonSchema, cat(R"({"type":"string","pattern":)", Json(pattern).dump(), ",", more, "}"));
  };
  expect_takes(schema("^[A-Z]{3}$", R"("maxLength":3)"), {R"("FRA")"}, {R"("FR")", R"("New York")"});
  expect_takes(schema("^[a-z0-9_-]+$", R"("minLength":2,"maxLength":4)"), {R"("ab")", R"("a_-4")"},
               {R"("a")", R"("abcde")", R"("A1")"});
  expect_takes(schema("^[a-z][a-z0-9]*$", R"("maxLength":3)"), {R"("a")", R"("a12")"}, {R"("a123")", R"("")"});
  expect_takes(schema("^(ab)*$", R"("minLength":3,"maxLength":5)"), {R"("abab")"}, {R"("ab")", R"("ababab")"});
  expect_takes(schema("^(x|y{5}|z{2,})$", R"("minLength":2,"maxLength":4)"), {R"("zz")", R"("zzzz")"},
               {R"("x")", R"("yyyyy")", R"("z")", R"("zzzzz")"});
  // Escapes count as one.
  expect_takes(schema("^[\"\n]*$", R"("maxLength":2)"), {R"("\"\n")"}, {R"("\"\"\"")"});
  // Several parts share it: what comes is not too long, and something can come.
  const auto slug = schema("^[a-z]+(-[a-z]+)*$", R"("maxLength":12)");
  expect_takes(slug, {R"("a-b")", R"("abc-de")"}, {R"("abcdefghijklm")", R"("-")"});
  expect_takes(schema("^[a-z]+@[a-z]+$", R"("minLength":5)"), {R"("abc@d")"}, {R"("a@b")"});
  for (const char* none :
       {R"({"pattern":"^a{5}$","maxLength":4})", R"({"pattern":"^(ab)*$","minLength":3,"maxLength":3})"}) {
    EXPECT_NE(refusal(Kind::kJsonSchema, none).find("pattern"), std::string::npos) << none;
  }
  expect_takes(compiled(Kind::kJsonSchema, R"({"type":"string","format":"date","maxLength":10})"), {R"("2026-12-01")"},
               {R"("x")"});
}

TEST(JsonSchema, KeepsWhatItCanOfTheRest) {
  const auto kept = [](const char* text) {
    return schema_that_can_be_kept(*parse_json(text, {.root_must_be_object = false}));
  };
  // The keyword that cannot be kept goes, those beside it stay, also in what is referred to.
  EXPECT_EQ(kept(R"({"type":"integer","minimum":1,"not":{"const":3}})"), kept(R"({"type":"integer","minimum":1})"));
  EXPECT_EQ(kept(R"({"type":"object","properties":{"a":{"$ref":"#/$defs/x"},"b":{"type":"string","pattern":"(a|a)*b"}},
                     "required":["b"],"$defs":{"x":{"enum":[1,2],"contains":{}}}})"),
            kept(R"({"type":"object","properties":{"a":{"$ref":"#/$defs/x"},"b":{"type":"string"}},"required":["b"],
                     "$defs":{"x":{"enum":[1,2]}}})"));
  EXPECT_EQ(kept(R"({"allOf":[{"type":"string"},{"type":"integer"}],"title":"x"})"), Json::object());
  EXPECT_EQ(kept(R"({"$ref":"#"})"), Json::object());
  EXPECT_EQ(kept("false"), Json::object());
}

TEST_F(GrammarCompilerTest, EbnfAndItsPlaces) {
  expect_takes(compiled(Kind::kEbnf, "root ::= \"x\" num+\nnum ::= [0-9]"), {"x1", "x12"}, {"x", "y"});
  EXPECT_NE(refusal(Kind::kEbnf, "root ::= undefined_rule"), "");
  EXPECT_EQ(refusal(Kind::kEbnf, "root ::= secret_name").find("secret"), std::string::npos);
  EXPECT_NE(refusal(Kind::kEbnf, "root ::= (\"a\"{20000}){20000}"), "");
  EXPECT_NE(refusal(Kind::kEbnf, "root ::= " + std::string(30000, '(') + "\"a\"" + std::string(30000, ')')), "");
}

TEST_F(GrammarCompilerTest, EbnfThatRefersToItself) {
  const auto sums = R"e(root ::= expression
    # sums and products; expression and product begin with themselves
    expression ::= expression " + " product | expression " - " product | product
    product ::= product "*" value | value
    value ::= [0-9]+ | "(" expression ")" | "-" value)e";
  expect_takes(compiled(Kind::kEbnf, sums), {"1", "1 + 2*3", "((1) - -2)*3 - 4", "(((((7)))))"},
               {"", "1 +", "(1", "*1", "1 + + 2"});
  expect_takes(compiled(Kind::kEbnf, R"e(list ::= "[" (root ("," root)*)? "]"
                                        root ::= "x" | list)e"),
               {"x", "[]", "[x,[x,[]]]"}, {"[", "[x,]"});
  // Ambiguous, and empty in many ways.
  expect_takes(compiled(Kind::kEbnf, R"e(root ::= "a" root root | "")e"), {"", "a", "aaaaaaaa"}, {"b", "ab"});
  expect_takes(compiled(Kind::kEbnf, R"e(root ::= (a | "b")* "c"
                                        a ::= a "x" | a | "y" more
                                        more ::= ("z" more)?)e"),
               {"c", "bbc", "yzzxxc"}, {"xc", "zc"});
  for (const auto& [grammar, why] : std::initializer_list<std::pair<const char*, const char*>>{
           {"root ::= a\na ::= b \"x\" | \"y\"\nb ::= a", "begins with itself through others"},
           {"root ::= empty root \"x\" | \"y\"\nempty ::= \"\" | \"z\"", "begins with itself through others"},
           {"root ::= \"x\" root", "never ends"},
           {"root ::= root", "never ends"},
           {"root ::= \"x\" | more\nmore ::= other\nother ::= more", "never ends"},
           {"x ::= \"a\"", "no rule root"},
           {"root ::= a", "does not define"},
           {"root ::= \"a\"\nroot ::= \"b\"", "twice (line 2)"},
           {"root ::= \"a\" (= \"b\")", "look-ahead"},
           {"root[max_tokens=3] ::= \"a\"", "options"},
           {"root ::= Token(5)", "macro"},
           {"root ::= \"a", "not closed"},
           {"root ::= \"a\"{3,2}", "repetition"},
           {"root ::= * \"a\"", "name"}}) {
    EXPECT_NE(refusal(Kind::kEbnf, grammar).find(why), std::string::npos)
        << grammar << ": " << refusal(Kind::kEbnf, grammar);
  }
  // A long text stays quick: what a mask costs grows no faster than the text.
  const auto nested = compiled(Kind::kEbnf, R"e(root ::= "(" root ")" root | "")e");
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_TRUE(takes(*nested, std::string(1500, '(') + std::string(1500, ')')));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
}

TEST_F(GrammarCompilerTest, StructuralTags) {
  const auto older = compiled(Kind::kStructuralTag, R"({"type":"structural_tag","structures":[
      {"begin":"<function=a>","schema":{"type":"integer"},"end":"</function>"},
      {"begin":"<function=b>","schema":{"enum":["x"]},"end":"</function>"}],"triggers":["<function="]})");
  expect_takes(older, {"", "text", "one <function=a>12</function> two <function=b>\"x\"</function>"},
               {"<function=", "<function=c>1</function>", "<function=b>1</function>", "<function=a>12"});
  const auto tag = [&](std::string_view format) {
    return compiled(Kind::kStructuralTag, cat(R"({"format":)", format, "}"));
  };
  const std::string tags = R"("tags":[{"begin":"<t>","content":{"type":"any_text"},"end":"</t>"},
      {"type":"tag","begin":"<u>","content":{"type":"regex","pattern":"[0-9]{2}"},"end":["</u>","!"]}])";
  expect_takes(tag(cat(R"({"type":"triggered_tags","triggers":["<t>","<u>"],)", tags, "}")),
               {"", "a <t>b</t> c <u>12!", "<u>12</u>"}, {"<t>b", "<u>1</u>"});
  expect_takes(tag(cat(R"({"type":"triggered_tags","triggers":["<t>","<u>"],"at_least_one":true,)", tags, "}")),
               {"<t>b</t>", "<u>12!text<t></t>"}, {"", "a <t>b</t>"});
  expect_takes(tag(cat(R"({"type":"triggered_tags","triggers":["<t>","<u>"],"stop_after_first":true,)", tags, "}")),
               {"x", "a<t>b</t>"}, {"<t>b</t> c"});
  expect_takes(tag(cat(R"({"type":"tags_with_separator","separator":", ","at_least_one":true,)", tags, "}")),
               {"<t>b</t>", "<u>12!, <t>c</t>"}, {"", "<t>b</t><t>c</t>"});
  expect_takes(tag(R"e({"type":"sequence","elements":[{"type":"const_string","value":"a"},{"type":"or","elements":[
      {"type":"json_schema","json_schema":{"type":"boolean"}},{"type":"grammar","grammar":"root ::= \"(\" root \")\" | \"x\""}]}]})e"),
               {"atrue", "a((x))"}, {"true", "a(x"});
  for (const char* wrong :
       {"{}", R"({"format":{"type":"tag"}})", R"({"format":{"type":"thing"}})", R"({"format":[]})",
        R"({"format":{"type":"regex","pattern":"(a|a)*b"}})", R"({"structures":[],"triggers":["x"]})",
        R"({"structures":[{"begin":"a","schema":{},"end":"b"}],"triggers":["x"]})",
        R"({"format":{"type":"any_text","what":1}})",
        R"({"format":{"type":"json_schema","json_schema":{"not":{}}}})"}) {
    EXPECT_NE(refusal(Kind::kStructuralTag, wrong), "") << wrong;
  }
}

TEST_F(GrammarCompilerTest, Choices) {
  expect_takes(compiled(Kind::kChoice, R"(["yes","no \"\\\n","é"])"), {"yes", "no \"\\\n", "é"}, {"", "y", "yesno"});
}

TEST_F(GrammarCompilerTest, WhatExplodesIsRefusedAtOnce) {
  for (const char* regex : {"(a|a)*b", "a{1,1000000000}", "([a-z]|[0-9a-f])+!", "((a{60}){60}){60}"}) {
    EXPECT_NE(refusal(Kind::kRegex, regex), "") << regex;
  }
  EXPECT_NE(refusal(Kind::kRegex, std::string(8000, '(') + "a" + std::string(8000, ')')), "");
  EXPECT_NE(refusal(Kind::kJsonSchema, std::string(30000, '[') + std::string(30000, ']')), "");
  std::string deep;
  for (int i = 0; i < 30000; ++i) deep += R"({"items":)";
  deep += "{}" + std::string(30000, '}');
  EXPECT_NE(refusal(Kind::kJsonSchema, deep), "");
  std::string values;
  for (int i = 0; i < 20000; ++i) values += cat(i > 0 ? "," : "", "\"v", i, "\"");
  EXPECT_NE(refusal(Kind::kJsonSchema, R"({"enum":[)" + values + "]}").find("enum"), std::string::npos);
  for (const char* schema : {R"({"$ref":"#"})", R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})",
                             R"({"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}}})",
                             R"({"anyOf":[{"$ref":"#"},{"type":"string"}]})", R"({"allOf":[{"$ref":"#"}]})",
                             R"({"type":"array","items":{"$ref":"#"},"minItems":1})"}) {
    EXPECT_NE(refusal(Kind::kJsonSchema, schema), "") << schema;
  }
}

TEST_F(GrammarCompilerTest, MasksHoldLongTokensAndNoControlTokens) {
  const auto vocabulary = byte_vocabulary({"\"na", "{\"name\"", "true"});
  const auto compiler = make_grammar_compiler(vocabulary);
  auto grammar = compiler->compile(
      {Kind::kJsonSchema, R"({"type":"object","properties":{"name":{"type":"boolean"}},"required":["name"]})"});
  ASSERT_TRUE(grammar.ok()) << grammar.status().message();
  const auto constraint = (*grammar)->start();
  EXPECT_TRUE(allows(*constraint, 261, vocabulary.size));
  EXPECT_TRUE(allows(*constraint, '{', vocabulary.size));
  for (const int32_t token : {int32_t{'['}, 260, 262, kTestEnd, kTestControl, 258, 263, 266}) {
    EXPECT_FALSE(allows(*constraint, token, vocabulary.size)) << token;
  }
  EXPECT_FALSE(constraint->accept(260));
  EXPECT_TRUE(constraint->accept(261));
  EXPECT_TRUE(allows(*constraint, ':', vocabulary.size));
}

TEST_F(GrammarCompilerTest, JumpsOverWhatAloneCanFollow) {
  auto vocabulary = byte_vocabulary();
  vocabulary.encode = [](std::string_view text) {
    std::vector<int32_t> out;
    for (const char c : text) out.push_back(static_cast<unsigned char>(c));
    return out;
  };
  const auto compiler = make_grammar_compiler(vocabulary);
  auto grammar = compiler->compile(
      {Kind::kJsonSchema, R"({"type":"object","properties":{"city":{"type":"string"}},"required":["city"]})"});
  ASSERT_TRUE(grammar.ok());
  const auto constraint = (*grammar)->start();
  std::string text;
  for (const int32_t token : constraint->jump_ahead()) text.push_back(static_cast<char>(token));
  EXPECT_EQ(text, "{\"city\": ");
  EXPECT_TRUE(allows(*constraint, '"', vocabulary.size));
  EXPECT_FALSE(allows(*constraint, 'x', vocabulary.size));
}

TEST_F(GrammarCompilerTest, CacheIsBoundedAndShared) {
  const auto first = compiled(Kind::kRegex, "[a-z]+");
  EXPECT_EQ(compiled(Kind::kRegex, "[a-z]+"), first);
  EXPECT_EQ(compiler_->stats().compiled, 1);
  EXPECT_EQ(compiler_->stats().found, 1);

  GrammarLimits limits;
  limits.cache_bytes = 30 * first->bytes();
  const auto small = make_grammar_compiler(byte_vocabulary(), limits);
  for (int i = 1; i <= 20; ++i) ASSERT_TRUE(small->compile({Kind::kRegex, cat("[a-z]{", i, "}")}).ok());
  EXPECT_LE(small->stats().cached_bytes, limits.cache_bytes);
  EXPECT_GT(small->stats().cached, 0);
  EXPECT_LT(small->stats().cached, 20);
}

TEST_F(GrammarCompilerTest, ManyThreadsAskForTheSame) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) {
        const auto grammar = compiled(Kind::kRegex, cat("x{", i % 5 + 1, "}y*"));
        EXPECT_TRUE(takes(*grammar, std::string(static_cast<size_t>(i % 5 + 1), 'x')));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(compiler_->stats().compiled, 5);
}

TEST_F(GrammarCompilerTest, LargeOnesAreRefused) {
  GrammarLimits limits;
  limits.max_compiled_bytes = 1000;
  EXPECT_FALSE(make_grammar_compiler(byte_vocabulary(), limits)->compile({Kind::kJsonSchema, "{}"}).ok());
  EXPECT_NE(refusal(Kind::kEbnf, "root ::= \"" + std::string(1 << 20, 'a') + "\""), "");
}

}  // namespace
}  // namespace hearth
