// Each format's grammar and parser against each other, and against what the models' makers publish as their output.
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <random>
#include <regex>

#include "formats/answer_grammar.h"
#include "grammar/grammar_compiler.h"
#include "grammar/json_schema.h"

namespace hearth {
namespace {

using Kind = AnswerPiece::Kind;

constexpr int32_t kEnd = 256, kFirstControl = 257;

// Bytes, an end token and the control tokens of all models. `controls`: whether markers are control tokens at all.
struct Vocabulary {
  explicit Vocabulary(bool controls) {
    if (!controls) return;
    for (const char* name : {"[TOOL_CALLS]",
                             "[ARGS]",
                             "[THINK]",
                             "[/THINK]",
                             "<｜tool▁calls▁begin｜>",
                             "<｜tool▁calls▁end｜>",
                             "<｜tool▁call▁begin｜>",
                             "<｜tool▁call▁end｜>",
                             "<｜tool▁sep｜>",
                             "<tool_call>",
                             "</tool_call>",
                             "<minimax:tool_call>",
                             "</minimax:tool_call>",
                             "<arg_key>",
                             "</arg_key>",
                             "<arg_value>",
                             "</arg_value>",
                             "<|channel|>",
                             "<|message|>",
                             "<|end|>",
                             "<|start|>",
                             "<|constrain|>",
                             "<|call|>",
                             "<|python_tag|>",
                             "<think>",
                             "</think>"}) {
      names.emplace_back(name);
    }
  }
  ControlTokens lookup() const {
    return [this](std::string_view name) -> std::optional<int32_t> {
      const auto at = std::ranges::find(names, name);
      if (at == names.end()) return std::nullopt;
      return kFirstControl + static_cast<int32_t>(at - names.begin());
    };
  }
  GrammarVocabulary grammar() const {
    GrammarVocabulary out;
    for (int byte = 0; byte < 256; ++byte) out.tokens.emplace_back(1, static_cast<char>(byte));
    out.tokens.resize(256 + 1 + names.size());
    out.size = static_cast<int64_t>(out.tokens.size());
    out.end_tokens = {kEnd};
    return out;
  }
  std::vector<std::string> names;
};

std::string readable(const std::vector<AnswerPiece>& pieces) {
  std::string out;
  for (const AnswerPiece& piece : pieces)
    out += cat("RCNA"[piece.kind == Kind::kContent     ? 1
                      : piece.kind == Kind::kReasoning ? 0
                      : piece.kind == Kind::kCall      ? 2
                                                       : 3],
               "[", piece.text, "] ");
  return out;
}

// An answer in the order it came: bytes, and control tokens by name.
struct Bit {
  std::string text;
  bool control = false;
};

std::vector<AnswerPiece> parsed(const ParserOptions& options, const std::vector<Bit>& answer, size_t cut) {
  const auto parser = make_answer_parser(options);
  std::vector<AnswerPiece> out;
  const auto take = [&](auto&& push) {
    std::vector<AnswerPiece> news;  // as a stream is given away
    push(news);
    for (AnswerPiece& piece : news) {
      if (piece.kind != Kind::kCall && !out.empty() && out.back().kind == piece.kind) {
        out.back().text += piece.text;
      } else {
        out.push_back(std::move(piece));
      }
    }
  };
  for (const Bit& bit : answer) {
    if (bit.control) {
      take([&](auto& news) { parser->push_control(bit.text, news); });
      continue;
    }
    for (size_t at = 0; at < bit.text.size(); at += cut) {
      take([&](auto& news) { parser->push(std::string_view(bit.text).substr(at, cut), news); });
    }
  }
  take([&](auto& news) { parser->finish(news); });
  return out;
}

std::vector<Bit> bits(std::string_view text, const Vocabulary& vocabulary) {
  std::vector<Bit> out;
  for (const LiteralPart& part : literal_parts(text, vocabulary.lookup()))
    out.push_back({part.text, part.token.has_value()});
  return out;
}

Tool tool(std::string name, std::string_view schema) {
  auto json = parse_json(schema);
  EXPECT_TRUE(json.ok());
  auto plain = plain_schema(*json);
  EXPECT_TRUE(plain.ok()) << plain.status().message();
  return {std::move(name), *plain};
}

std::vector<Tool> tools() {
  return {
      tool(
          "get_weather",
          R"({"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer","minimum":1,"maximum":14},
                "unit":{"enum":["C","F"]}},"required":["city"]})"),
      tool("note.add",
           R"({"type":"object","properties":{"lines":{"type":"array","items":{"type":"string"},"maxItems":2},
                "date":{"type":"string","format":"date"},"done":{"type":"boolean"}},"required":["lines","done"]})"),
      tool("now", R"({"type":"object","properties":{}})")};
}

struct Case {
  AnswerFormat format;
  std::string name;
};
std::vector<Case> cases() {
  std::vector<Case> out;
  for (const CallFormat& format : call_formats()) {
    AnswerFormat with = choose_format(format.name, "think", "").value();
    out.push_back({with, std::string(format.name)});
  }
  out.push_back({choose_format("harmony", "harmony", "").value(), "harmony"});
  return out;
}

std::string shown(const std::vector<Bit>& answer) {
  std::string out;
  for (const Bit& bit : answer) out += bit.text;
  return out;
}

// A random answer of a grammar.
std::optional<std::vector<Bit>> drawn(const Grammar& grammar, const Vocabulary& vocabulary, std::mt19937_64& random) {
  const auto constraint = grammar.start();
  const int64_t size = vocabulary.grammar().size;
  std::vector<int32_t> mask(static_cast<size_t>(Constraint::mask_words(size)));
  std::vector<Bit> out;
  for (int step = 0; step < 900; ++step) {
    const bool masked = constraint->fill_mask(mask);
    std::vector<int32_t> allowed, eager, beyond;
    for (int32_t token = 0; token < size; ++token) {
      if (masked && (static_cast<uint32_t>(mask[static_cast<size_t>(token / 32)]) >> (token % 32) & 1) == 0) continue;
      if (token >= 128 && token < kEnd) {  // ASCII, but where a marker goes on
        if (allowed.empty()) beyond = {token};
        continue;
      }
      allowed.push_back(token);
      if (token >= kEnd || token == '<' || token == '"' || token == '}' || token == ']' || token == '/' || token == '{')
        eager.push_back(token);
    }
    if (allowed.empty()) allowed = beyond;
    EXPECT_FALSE(allowed.empty()) << "after " << shown(out);
    if (allowed.empty()) return std::nullopt;
    const auto& from = !eager.empty() && random() % 2 == 0 ? eager : allowed;
    const int32_t token = from[random() % from.size()];
    EXPECT_TRUE(constraint->accept(token));
    if (token == kEnd) return out;
    if (token >= kFirstControl) {
      out.push_back({vocabulary.names[static_cast<size_t>(token - kFirstControl)], true});
    } else {
      out.push_back({std::string(1, static_cast<char>(token)), false});
    }
  }
  return std::nullopt;
}

// Whether it is a call's JSON that its tool's schema allows.
void expect_valid(GrammarCompiler& json, const std::string& name, const std::string& arguments,
                  const std::string& answer) {
  const auto value = parse_json(arguments);
  ASSERT_TRUE(value.ok()) << arguments << "\nof " << answer;
  for (const Tool& tool : tools()) {
    if (tool.name != name) continue;
    for (const auto& required : tool.parameters.value("required", Json::array()))
      EXPECT_TRUE(value->contains(required)) << answer;
    for (const auto& [key, parameter] : value->items()) {
      const Json* schema = parameter_schema(tool.parameters, key);
      ASSERT_NE(schema, nullptr) << answer;
      if (schema->contains("enum")) {
        EXPECT_NE(std::find((*schema)["enum"].begin(), (*schema)["enum"].end(), parameter), (*schema)["enum"].end())
            << answer;
      } else {
        const std::string type = (*schema)["type"];
        EXPECT_EQ(type, parameter.is_string()    ? "string"
                        : parameter.is_array()   ? "array"
                        : parameter.is_boolean() ? "boolean"
                                                 : "integer")
            << answer;
      }
    }
    return;
  }
  FAIL() << "no tool is called " << name << " in " << answer;
  (void)json;
}

class Formats : public testing::TestWithParam<int> {};

TEST_P(Formats, WhatTheGrammarAllowsIsParsedHoweverItIsCut) {
  const Case c = cases()[static_cast<size_t>(GetParam())];
  std::mt19937_64 random(7);
  std::map<Kind, int> seen;
  int finished = 0;
  for (const bool controls : {false, true}) {
    if (c.format.harmony && !controls) continue;
    const Vocabulary vocabulary(controls);
    const auto compiler = make_grammar_compiler(vocabulary.grammar());
    for (const ToolChoice choice : {ToolChoice::kAuto, ToolChoice::kRequired}) {
      for (const int reasoning : {0, 1, 2}) {
        AnswerRules rules{.format = c.format,
                          .tools = tools(),
                          .choice = choice,
                          .parallel = reasoning != 1,
                          .control_token = vocabulary.lookup()};
        rules.may_reason = reasoning > 0;
        rules.in_reasoning = reasoning > 1;
        auto spec = answer_grammar(rules);
        ASSERT_TRUE(spec.ok() && spec->has_value());
        auto grammar = compiler->compile(**spec);
        ASSERT_TRUE(grammar.ok()) << c.name << ": " << grammar.status().message() << "\n" << (*spec)->text;
        const ParserOptions options{c.format, vocabulary.lookup(), tools(), rules.in_reasoning, rules.may_reason};
        for (int i = 0; i < 12; ++i) {
          const auto answer = drawn(**grammar, vocabulary, random);
          if (!answer) continue;
          ++finished;
          const std::string text = shown(*answer);
          std::vector<Bit> joined;
          for (const Bit& bit : *answer) {
            if (!bit.control && !joined.empty() && !joined.back().control) {
              joined.back().text += bit.text;
            } else {
              joined.push_back(bit);
            }
          }
          const auto whole = parsed(options, joined, std::string::npos / 2);
          ASSERT_EQ(readable(parsed(options, joined, 1)), readable(whole)) << text;
          ASSERT_EQ(readable(parsed(options, joined, 3)), readable(whole)) << text;
          int calls = 0;
          for (size_t at = 0; at < whole.size(); ++at) {
            ++seen[whole[at].kind];
            if (whole[at].kind != Kind::kCall) continue;
            ++calls;
            ASSERT_LT(at + 1, whole.size()) << text;
            ASSERT_EQ(whole[at + 1].kind, Kind::kArguments) << text;
            expect_valid(*compiler, whole[at].text, whole[at + 1].text, text);
            if (HasFailure()) return;
          }
          EXPECT_GE(calls, choice == ToolChoice::kRequired ? 1 : 0) << text;
          EXPECT_LE(calls, rules.parallel ? 1000 : 1) << text;
        }
      }
    }
  }
  EXPECT_GT(finished, 30) << c.name;
  EXPECT_GT(seen[Kind::kCall], 20) << c.name;
  EXPECT_GT(seen[Kind::kContent], 0) << c.name;
  EXPECT_GT(seen[Kind::kReasoning], 0) << c.name;
}

TEST_P(Formats, AFormIsKeptBesideCallsAndReasoning) {
  const Case c = cases()[static_cast<size_t>(GetParam())];
  std::mt19937_64 random(5);
  const Vocabulary vocabulary(true);
  const auto compiler = make_grammar_compiler(vocabulary.grammar());
  using Form = GrammarSpec::Kind;
  const std::vector<std::pair<GrammarSpec, const char*>> forms{
      {{Form::kJsonSchema, R"({"enum":["a",1]})"}, "\"a\"|1"},
      {{Form::kRegex, "[0-9]{2}"}, "[0-9]{2}"},
      {{Form::kChoice, R"(["yes","no"])"}, "yes|no"},
      {{Form::kEbnf, R"e(root ::= "-" root | [0-9])e"}, "-*[0-9]"},
      {{Form::kStructuralTag, R"e({"format":{"type":"tag","begin":"(","content":{"type":"json_schema",
          "json_schema":{"type":"boolean"}},"end":")"}})e"},
       "\\((true|false)\\)"}};
  for (const bool calls : {false, true}) {
    for (const auto& [form, expression] : forms) {
      AnswerRules rules{.format = c.format, .control_token = vocabulary.lookup()};
      if (calls) rules.tools = tools(), rules.choice = ToolChoice::kAuto;
      rules.content = form;
      rules.may_reason = rules.in_reasoning = !c.format.harmony;
      auto spec = answer_grammar(rules);
      ASSERT_TRUE(spec.ok() && spec->has_value()) << spec.status().message();
      auto grammar = compiler->compile(**spec);
      ASSERT_TRUE(grammar.ok()) << c.name << ": " << grammar.status().message() << "\n" << (*spec)->text;
      const ParserOptions options{c.format, vocabulary.lookup(), calls ? tools() : std::vector<Tool>(),
                                  rules.in_reasoning, rules.may_reason};
      int found = 0;
      for (int i = 0; i < 80 && found < 8; ++i) {
        const auto answer = drawn(**grammar, vocabulary, random);
        if (!answer) continue;
        std::string content;
        bool called = false;
        for (const AnswerPiece& piece : parsed(options, *answer, 1)) {
          if (piece.kind == Kind::kContent) content += piece.text;
          called = called || piece.kind == Kind::kCall;
        }
        if (called) continue;
        ++found;
        EXPECT_TRUE(std::regex_match(content, std::regex(expression)))
            << c.name << ": " << content << " of " << shown(*answer);
      }
      EXPECT_GT(found, 0) << c.name << " " << form.text;
    }
  }
}

// Whatever a model writes, in whatever pieces it comes, the parser says the same of it.
TEST_P(Formats, AnyTextIsParsedTheSameHoweverItIsCut) {
  const Case c = cases()[static_cast<size_t>(GetParam())];
  std::mt19937_64 random(11);
  std::vector<std::string> words{"a", " ",           "\n",  "{", "}", "\"", "\\",       ":", ", ",  "[",
                                 "]", "get_weather", "now", "é", "<", ">",  "\"city\"", "3", "null"};
  if (const CallFormat* format = c.format.calls) {
    for (const std::string_view word :
         {format->section_begin, format->section_end, format->separator, format->begin, format->middle, format->end}) {
      if (!word.empty()) words.emplace_back(word), words.emplace_back(word.substr(0, word.size() / 2));
    }
    if (format->parameters) {
      for (const std::string_view word :
           {format->parameters->begin, format->parameters->middle, format->parameters->end})
        words.emplace_back(word);
    }
  }
  for (const char* word : {"<think>", "</think>", "<|channel|>", "analysis", "final", "commentary to=functions.now ",
                           "<|message|>", "<|end|>", "<|start|>"})
    words.emplace_back(word);
  for (int i = 0; i < 3000; ++i) {
    const Vocabulary vocabulary(i % 2 == 0);
    std::string text;
    for (size_t k = random() % 16; k > 0; --k) text += words[random() % words.size()];
    const ParserOptions options{c.format, vocabulary.lookup(), tools(), i % 3 == 0, i % 5 != 0};
    const auto answer = bits(text, vocabulary);
    const std::string whole = readable(parsed(options, answer, text.size() + 1));
    EXPECT_EQ(readable(parsed(options, answer, 1)), whole) << c.name << ": " << text;
    EXPECT_EQ(readable(parsed(options, answer, 2)), whole) << c.name << ": " << text;
    if (HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(All, Formats, testing::Range(0, static_cast<int>(call_formats().size()) + 1));

struct Golden {
  std::string format, text;
  bool in_reasoning;
  std::vector<AnswerPiece> pieces;
};

TEST(AnswerParser, ReadsWhatModelsWrite) {
  const AnswerPiece call{Kind::kCall, "get_weather"};
  const std::vector<Golden> goldens{
      {"hermes",
       "Let me see.\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris "
       "\\\"}\"}}\n</tool_call>",
       false,
       {{Kind::kContent, "Let me see."}, call, {Kind::kArguments, "{\"city\": \"Paris \\\"}\"}"}}},
      {"hermes",
       "<think>\nHm, {2}.\n</think>\n\n<tool_call>\n{\"name\": \"now\", \"arguments\": "
       "{}}\n</tool_call>\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Oslo\", \"days\": "
       "2}}\n</tool_call>",
       false,
       {{Kind::kReasoning, "Hm, {2}."},
        {Kind::kCall, "now"},
        {Kind::kArguments, "{}"},
        call,
        {Kind::kArguments, "{\"city\": \"Oslo\", \"days\": 2}"}}},
      {"hermes",
       "So.\n</think>\n\nIt is <b>4</b>.",
       true,
       {{Kind::kReasoning, "So."}, {Kind::kContent, "It is <b>4</b>."}}},
      {"qwen3_coder",
       "I "
       "look.\n\n<tool_call>\n<function=get_weather>\n<parameter=city>\nNew\n\"York\"\n</"
       "parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>",
       false,
       {{Kind::kContent, "I look."}, call, {Kind::kArguments, "{\"city\": \"New\\n\\\"York\\\"\", \"days\": 3}"}}},
      {"mistral",
       "[TOOL_CALLS]get_weather[ARGS]{\"city\": \"Nice\"}[TOOL_CALLS]now[ARGS]{}",
       false,
       {call, {Kind::kArguments, "{\"city\": \"Nice\"}"}, {Kind::kCall, "now"}, {Kind::kArguments, "{}"}}},
      {"mistral_v3",
       "[TOOL_CALLS] [{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Nice\"}}, {\"name\": \"now\", "
       "\"arguments\": {}}]",
       false,
       {call, {Kind::kArguments, "{\"city\": \"Nice\"}"}, {Kind::kCall, "now"}, {Kind::kArguments, "{}"}}},
      {"llama3_json",
       "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Nice\"}}",
       false,
       {call, {Kind::kArguments, "{\"city\": \"Nice\"}"}}},
      {"llama3_json",
       "Say {\"name\": \"get_weather\", \"parameters\": {}}",
       false,
       {{Kind::kContent, "Say {\"name\": \"get_weather\", \"parameters\": {}}"}}},
      {"glm45",
       "<think></think>\nOk.\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Nice "
       "<3</arg_value>\n<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>",
       false,
       {{Kind::kContent, "Ok."}, call, {Kind::kArguments, "{\"city\": \"Nice <3\", \"days\": 3}"}}},
      {"minimax_m2",
       "<minimax:tool_call>\n<invoke name=\"get_weather\">\n<parameter "
       "name=\"city\">Nice</parameter>\n</invoke>\n<invoke name=\"now\">\n</invoke>\n</minimax:tool_call>",
       false,
       {call, {Kind::kArguments, "{\"city\": \"Nice\"}"}, {Kind::kCall, "now"}, {Kind::kArguments, "{}"}}},
      {"deepseek_v3",
       "Ok<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": "
       "\"Nice\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
       false,
       {{Kind::kContent, "Ok"}, call, {Kind::kArguments, "{\"city\": \"Nice\"}"}}},
      {"deepseek_v31",
       "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"city\": "
       "\"Nice\"}<｜tool▁call▁end｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
       false,
       {call, {Kind::kArguments, "{\"city\": \"Nice\"}"}, {Kind::kCall, "now"}, {Kind::kArguments, "{}"}}},
      {"harmony",
       "<|channel|>analysis<|message|>They ask.<|end|><|start|>assistant<|channel|>commentary to=functions.get_weather "
       "<|constrain|>json<|message|>{\"city\": \"Nice\"}",
       false,
       {{Kind::kReasoning, "They ask."}, call, {Kind::kArguments, "{\"city\": \"Nice\"}"}}},
      {"harmony",
       "<|channel|>analysis<|message|>Easy.<|end|><|start|>assistant<|channel|>final<|message|>Four.",
       false,
       {{Kind::kReasoning, "Easy."}, {Kind::kContent, "Four."}}},
  };
  for (const Golden& golden : goldens) {
    for (const bool controls : {false, true}) {
      if (golden.format == "harmony" && !controls) continue;
      const Vocabulary vocabulary(controls);
      const AnswerFormat format =
          choose_format(golden.format, golden.format == "harmony" ? "harmony" : "think", "").value();
      const ParserOptions options{format, vocabulary.lookup(), tools(), golden.in_reasoning, true};
      const auto answer = bits(golden.text, vocabulary);
      for (const size_t cut : {size_t{1}, size_t{2}, size_t{7}, golden.text.size()}) {
        EXPECT_EQ(parsed(options, answer, cut), golden.pieces)
            << golden.format << ", cut to " << cut << ": " << golden.text;
      }
    }
  }
}

// What published templates make of past answers is what their models write: the same calls come out again.
// tools/make_tool_template_golden.py.
TEST(AnswerParser, ReadsBackWhatTemplatesWrite) {
  const auto read = [](const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    EXPECT_TRUE(file.good()) << path;
    return std::string{std::istreambuf_iterator<char>(file), {}};
  };
  const Json golden = parse_json(read("tests/golden/text/tool_templates.json")).value();
  std::vector<Tool> known;
  for (const auto& [name, schema] : golden["tools"].items()) known.push_back(tool(name, schema.dump()));
  int answers = 0;
  for (const auto& [path, of_template] : golden["templates"].items()) {
    const AnswerFormat format = choose_format("auto", "auto", read(".cache/models/" + path)).value();
    ASSERT_EQ(format.harmony            ? "harmony"
              : format.calls == nullptr ? ""
                                        : format.calls->name,
              of_template["format"].get<std::string>())
        << path;
    for (const Json& answer : of_template["answers"]) {
      const std::string text = answer["text"], prompt = answer["prompt"];
      SCOPED_TRACE(path + ": " + text);
      // Markers are control tokens, or none is: vocabularies differ.
      for (const bool controls : {true, false}) {
        if (format.harmony && !controls) continue;
        const Vocabulary vocabulary(controls);
        ParserOptions options{format, vocabulary.lookup(), known, false, true};
        if (format.reasoning != nullptr) {
          const std::string_view tail = std::string_view(prompt).substr(0, prompt.find_last_not_of(" \n") + 1);
          options.in_reasoning = tail.ends_with(format.reasoning->begin);
          options.may_reason = !tail.ends_with(format.reasoning->end);
        }
        const auto written = bits(text, vocabulary);
        const auto whole = parsed(options, written, text.size() + 1);
        Json calls = Json::array();
        std::string content, reasoning;
        for (const AnswerPiece& piece : whole) {
          if (piece.kind == Kind::kCall) calls.push_back({piece.text, ""});
          if (piece.kind == Kind::kArguments) calls.back()[1] = calls.back()[1].get<std::string>() + piece.text;
          (piece.kind == Kind::kContent ? content : reasoning) +=
              piece.kind == Kind::kContent || piece.kind == Kind::kReasoning ? piece.text : "";
        }
        for (Json& call : calls) call[1] = parse_json(call[1].get<std::string>()).value();
        Json wanted = answer["calls"];
        if (format.harmony) wanted.erase(wanted.begin() + 1, wanted.end());  // its template writes the first one only
        EXPECT_EQ(calls, wanted);
        // Cut at every byte, and in pieces of every length up to one token that is all of it.
        for (size_t cut = 1; cut <= text.size(); cut += cut < 8 ? 1 : cut / 2) {
          ASSERT_EQ(readable(parsed(options, written, cut)), readable(whole)) << "cut at every " << cut;
        }
        ++answers;
      }
    }
  }
  EXPECT_GT(answers, 200);
}

TEST(AnswerParser, WithoutToolsOrReasoningAllIsContent) {
  const Vocabulary vocabulary(false);
  const std::string text = "<think>a</think> <tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
  const ParserOptions options{choose_format("hermes", "none", "").value(), vocabulary.lookup(), {}, false, true};
  EXPECT_EQ(parsed(options, {{text, false}}, 1), (std::vector<AnswerPiece>{{Kind::kContent, text}}));
}

TEST(AnswerFormat, IsChosenByTheTemplate) {
  const auto chosen = [](std::string_view source) {
    const AnswerFormat format = choose_format("auto", "auto", source).value();
    return cat(format.harmony ? "harmony"
               : format.calls ? format.calls->name
                              : "none",
               "/", format.reasoning ? format.reasoning->name : "none");
  };
  EXPECT_EQ(chosen("<tool_call></tool_call>"), "hermes/none");
  EXPECT_EQ(chosen("<tool_call> <think>"), "hermes/think");
  EXPECT_EQ(chosen("<tool_call>\n<function=x>"), "qwen3_coder/none");
  EXPECT_EQ(chosen("[TOOL_CALLS][ARGS][THINK]"), "mistral/mistral");
  EXPECT_EQ(chosen("[TOOL_CALLS]"), "mistral_v3/none");
  EXPECT_EQ(chosen("<|channel|><|message|>"), "harmony/none");
  EXPECT_EQ(chosen("{{ messages }}"), "none/none");
  EXPECT_FALSE(choose_format("nonsense", "auto", "").ok());
  EXPECT_FALSE(choose_format("auto", "nonsense", "").ok());
}

}  // namespace
}  // namespace hearth
