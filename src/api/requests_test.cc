// Every refusal of the two request parsers, and what they accept.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "api/chat_request.h"
#include "api/completion_request.h"

namespace hearth {
namespace {

const ApiLimits kLimits{.vocab_size = 1000, .max_model_len = 100, .max_logprobs = 5, .max_choices = 8};

Result<CompletionRequest> completion(std::string_view fields) {
  return parse_completion_request(parse_json(cat("{\"prompt\":\"a\"", fields.empty() ? "" : ",", fields, "}")).value(),
                                  kLimits);
}
Result<ChatRequest> chat(std::string_view fields, std::string_view messages = R"([{"role":"user","content":"a"}])") {
  return parse_chat_request(parse_json(cat("{\"messages\":", messages, fields.empty() ? "" : ",", fields, "}")).value(),
                            kLimits);
}

TEST(Requests, Defaults) {
  const auto c = completion("").value();
  EXPECT_EQ(c.sampling.temperature, 1.0f);
  EXPECT_EQ(c.sampling.logprobs, -1);
  EXPECT_FALSE(c.max_tokens || c.seed || c.stream || c.echo);
  EXPECT_EQ(std::get<std::string>(c.prompts.at(0)), "a");
}

TEST(Requests, EverySharedField) {
  for (const std::string_view endpoint : {"completion", "chat"}) {
    const std::string_view fields =
        R"("model":"m","temperature":0.5,"top_p":0.9,"min_p":0.1,"top_k":7,"frequency_penalty":-2,"presence_penalty":2,
           "repetition_penalty":1.5,"seed":-1,"logit_bias":{"7":-100,"8":1.5},"stop":["x","yy"],"stop_token_ids":[3,4.0],
           "include_stop_str_in_output":true,"skip_special_tokens":false,"ignore_eos":true,"n":3,"stream":true,
           "stream_options":{"include_usage":true,"continuous_usage_stats":true},"max_tokens":9,"min_tokens":2,
           "priority":-5)";
    const GenerationRequest r = endpoint == "chat" ? static_cast<GenerationRequest>(chat(fields).value())
                                                   : static_cast<GenerationRequest>(completion(fields).value());
    EXPECT_EQ(r.model, "m");
    EXPECT_EQ(r.sampling.temperature, 0.5f);
    EXPECT_EQ(r.sampling.top_p, 0.9f);
    EXPECT_EQ(r.sampling.min_p, 0.1f);
    EXPECT_EQ(r.sampling.top_k, 7);
    EXPECT_EQ(r.sampling.frequency_penalty, -2.0f);
    EXPECT_EQ(r.sampling.presence_penalty, 2.0f);
    EXPECT_EQ(r.sampling.repetition_penalty, 1.5f);
    EXPECT_EQ(r.seed, ~uint64_t{0});
    EXPECT_EQ(r.sampling.logit_bias, (std::vector<std::pair<int32_t, float>>{{7, -100.0f}, {8, 1.5f}}));
    EXPECT_EQ(r.stop, (std::vector<std::string>{"x", "yy"}));
    EXPECT_EQ(r.sampling.stop_token_ids, (std::vector<int32_t>{3, 4}));
    EXPECT_TRUE(r.include_stop && !r.skip_special_tokens && r.sampling.ignore_eos && r.stream);
    EXPECT_TRUE(r.include_usage && r.continuous_usage);
    EXPECT_EQ(r.n, 3);
    EXPECT_EQ(r.max_tokens, 9);
    EXPECT_EQ(r.sampling.min_tokens, 2);
    EXPECT_EQ(r.priority, -5);
  }
}

TEST(Requests, NullsAndHarmlessFieldsAreIgnored) {
  const std::string_view fields =
      R"("temperature":null,"stop":null,"n":null,"tools":null,"logit_bias":null,"user":"u","metadata":{"a":1},"store":true,
         "tools":null)";
  EXPECT_FALSE(parse_json(cat("{", fields, "}")).ok());  // the same key twice is refused below us
  EXPECT_TRUE(chat(R"("temperature":null,"stop":null,"n":null,"tools":[],"tool_choice":"none","logit_bias":null,
                     "user":"u","metadata":{"a":1},"response_format":{"type":"text"},"best_of":1,"seed":null)")
                  .ok());
  EXPECT_TRUE(completion(R"("suffix":"","best_of":1,"echo":null,"logprobs":null,"use_beam_search":false)").ok());
}

TEST(Requests, FieldsThatAskForNothing) {
  for (const std::string_view fields :
       {R"("tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"none")", R"("tools":{})",
        R"("tool_choice":"")", R"("functions":[],"function_call":"")", R"("response_format":{})",
        R"("response_format":"")", R"("guided_json":{},"guided_regex":"","guided_choice":[])", R"("modalities":[])",
        R"("reasoning_effort":"")", R"("stop":"")", R"("stop":[])", R"("stop_token_ids":[])", R"("logit_bias":[])",
        R"("logit_bias":{})", R"("stream_options":{})", R"("stream":false,"stream_options":{"include_usage":false})",
        R"("model":"")", R"("chat_template_kwargs":{},"documents":[],"bad_words":[],"allowed_token_ids":null)"}) {
    for (const Status& status : {completion(fields).status(), chat(fields).status()}) {
      EXPECT_TRUE(status.ok()) << fields << ": " << status.message();
    }
  }
}

TEST(Requests, PromptShapes) {
  const auto prompts = [](std::string_view json) {
    return parse_completion_request(parse_json(cat("{\"prompt\":", json, "}")).value(), kLimits);
  };
  EXPECT_EQ(prompts(R"(["a","b"])")->prompts.size(), 2u);
  EXPECT_EQ(std::get<1>(prompts("[1,2,999]")->prompts.at(0)), (std::vector<int32_t>{1, 2, 999}));
  EXPECT_EQ(prompts(R"([[1],[2,3],"c"])")->prompts.size(), 3u);
  for (const std::string_view bad :
       {"[]", "[[]]", "1", "{}", "true", "null", "[1000]", "[-1]", "[1.5]", "[1,\"a\"]", "[[1000]]", "[\"a\",1]",
        "[[1],[[2]]]", "[null]", "[[1],[2],[3],[4],[5],[6],[7],[8],[9]]"}) {
    const auto refused = prompts(bad);
    ASSERT_FALSE(refused.ok()) << bad;
    EXPECT_EQ(refused.status().param(), "prompt") << bad;
  }
}

struct Bad {
  const char* fields;
  const char* param;
};

TEST(Requests, FormsOfAnAnswer) {
  using Kind = GrammarSpec::Kind;
  const auto form = [](std::string_view fields) { return chat(fields).value().form; };
  EXPECT_EQ(form(R"("response_format":{"type":"json_object"})").spec->text, R"({"type":"object"})");
  const AnswerForm schema =
      form(R"("response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"null"}}})");
  EXPECT_EQ(schema.spec->kind, Kind::kJsonSchema);
  EXPECT_EQ(schema.spec->text, R"({"type":"null"})");
  EXPECT_EQ(schema.param, "response_format");
  EXPECT_EQ(form(R"("guided_regex":"a+")").spec->kind, Kind::kRegex);
  EXPECT_EQ(form(R"("guided_json":"{}")").spec->text, "{}");
  EXPECT_EQ(form(R"("structured_outputs":{"choice":["a","b\"c"]})").spec->text, R"(["a","b\"c"])");
  EXPECT_EQ(form(R"("structured_outputs":{"structural_tag":{"format":1}})").spec->kind, Kind::kStructuralTag);
  EXPECT_EQ(form(R"("response_format":{"type":"structural_tag","format":{}})").spec->kind, Kind::kStructuralTag);
  EXPECT_EQ(completion(R"("structured_outputs":{"grammar":"root ::= x"})").value().form.param,
            "structured_outputs.grammar");
  EXPECT_FALSE(form(R"("response_format":{"type":"text"})").spec);
  for (const auto& [fields, param] : std::vector<std::pair<std::string, std::string>>{
           {R"("response_format":{"type":"xml"})", "response_format.type"},
           {R"("response_format":{"type":"json_schema"})", "response_format.json_schema"},
           {R"("response_format":{"type":"json_object"},"guided_regex":"a")", "guided_regex"}}) {
    EXPECT_EQ(chat(fields).status().param(), param) << fields;
  }
  EXPECT_EQ(completion(R"("response_format":{"type":"json_object"})").status().param(), "response_format");
  EXPECT_EQ(completion(R"("tools":[{"type":"function","function":{"name":"f"}}])").status().param(), "tools");
  EXPECT_EQ(completion(R"("reasoning_effort":"high")").status().param(), "reasoning_effort");
}

TEST(Requests, ToolsAndWhichMayBeCalled) {
  const std::string two =
      R"("tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"a":{"type":"integer"}}}}},
                             {"type":"function","function":{"name":"g"}}])";
  const auto tools = [&](const std::string& more) { return chat(two + more).value().tools; };
  EXPECT_EQ(tools("").choice, ToolChoice::kAuto);
  EXPECT_EQ(tools("").tools.size(), 2u);
  EXPECT_EQ(tools("").listed.size(), 2u);
  EXPECT_TRUE(tools("").parallel);
  EXPECT_EQ(tools(R"(,"tool_choice":"none")").choice, ToolChoice::kNone);
  EXPECT_TRUE(tools(R"(,"tool_choice":"none")").listed.is_null());
  EXPECT_EQ(tools(R"(,"tool_choice":"required","parallel_tool_calls":false)").choice, ToolChoice::kRequired);
  EXPECT_FALSE(tools(R"(,"tool_choice":"required","parallel_tool_calls":false)").parallel);
  const ToolsRequest named = tools(R"(,"tool_choice":{"type":"function","function":{"name":"g"}})");
  EXPECT_EQ(named.choice, ToolChoice::kRequired);
  ASSERT_EQ(named.tools.size(), 1u);
  EXPECT_EQ(named.tools[0].name, "g");
  const ToolsRequest allowed = tools(
      R"(,"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name":"f"}}]}})");
  EXPECT_EQ(allowed.choice, ToolChoice::kRequired);
  EXPECT_EQ(allowed.tools.size(), 1u);

  const std::string odd = R"({"type":"object","properties":{"a":{"type":"string"},"b":{"not":{}}},"required":["a"]})";
  const auto with = [&](std::string_view strict) {
    return chat(cat(R"("tools":[{"type":"function","function":{"name":"f","strict":)", strict, R"(,"parameters":)", odd,
                    "}}]"));
  };
  EXPECT_EQ(with("true").status().param(), "tools[0].function.parameters");
  EXPECT_NE(with("true").status().message().find("not"), std::string::npos);
  const Json kept = with("false").value().tools.tools[0].parameters;
  EXPECT_EQ(kept["properties"]["a"]["type"], "string");
  EXPECT_EQ(kept["properties"]["b"], Json::object());
  EXPECT_EQ(kept["required"], Json::array({"a"}));

  for (const auto& [fields, param] : std::vector<std::pair<std::string, std::string>>{
           {R"("tools":[{"type":"function"}])", "tools[0].function"},
           {R"("tools":[{"type":"web_search","function":{"name":"f"}}])", "tools[0].type"},
           {R"("tools":[{"type":"function","function":{"name":"a b"}}])", "tools[0].function.name"},
           {R"("tools":[{"type":"function","function":{"name":"f","parameters":{"type":"array"}}}])",
            "tools[0].function.parameters"},
           {two + R"(,"tool_choice":"zebra")", "tool_choice"},
           {two + R"(,"tool_choice":{"type":"function","function":{"name":"h"}})", "tool_choice"},
           {R"("tools":[{"function":{"name":"f"}},{"function":{"name":"f"}}])", "tools[1].function.name"}}) {
    EXPECT_EQ(chat(fields).status().param(), param) << fields;
  }
}

TEST(Requests, RefusesWhatBothEndpointsBound) {
  const Bad bads[] = {
      {R"("temperature":-0.1)", "temperature"},
      {R"("temperature":"1")", "temperature"},
      {R"("temperature":[1])", "temperature"},
      {R"("temperature":101)", "temperature"},
      {R"("top_p":0)", "top_p"},
      {R"("top_p":1.1)", "top_p"},
      {R"("min_p":-1)", "min_p"},
      {R"("min_p":2)", "min_p"},
      {R"("top_k":-2)", "top_k"},
      {R"("top_k":1.5)", "top_k"},
      {R"("top_k":9999999999)", "top_k"},
      {R"("frequency_penalty":3)", "frequency_penalty"},
      {R"("presence_penalty":-3)", "presence_penalty"},
      {R"("repetition_penalty":0)", "repetition_penalty"},
      {R"("repetition_penalty":11)", "repetition_penalty"},
      {R"("seed":1.5)", "seed"},
      {R"("seed":"1")", "seed"},
      {R"("seed":18446744073709551615)", "seed"},
      {R"("logit_bias":[1])", "logit_bias"},
      {R"("logit_bias":{"x":1})", "logit_bias"},
      {R"("logit_bias":{"1000":1})", "logit_bias"},
      {R"("logit_bias":{"-1":1})", "logit_bias"},
      {R"("logit_bias":{"1":101})", "logit_bias"},
      {R"("logit_bias":{"1":"2"})", "logit_bias"},
      {R"("logit_bias":{"1 ":1})", "logit_bias"},
      {R"("logit_bias":{"":1})", "logit_bias"},
      {R"("stop":1)", "stop"},
      {R"("stop":[""])", "stop"},
      {R"("stop":["a",2])", "stop"},
      {R"("stop":["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16","17"])", "stop"},
      {R"("stop_token_ids":[1000])", "stop_token_ids"},
      {R"("stop_token_ids":5)", "stop_token_ids"},
      {R"("stop_token_ids":["a"])", "stop_token_ids"},
      {R"("ignore_eos":1)", "ignore_eos"},
      {R"("stream":"yes")", "stream"},
      {R"("skip_special_tokens":0)", "skip_special_tokens"},
      {R"("n":0)", "n"},
      {R"("n":9)", "n"},
      {R"("n":-1)", "n"},
      {R"("n":"2")", "n"},
      {R"("stream_options":{"include_usage":true})", "stream_options"},
      {R"("stream":true,"stream_options":3)", "stream_options"},
      {R"("stream":true,"stream_options":{"include_usage":3})", "stream_options.include_usage"},
      {R"("max_tokens":-1)", "max_tokens"},
      {R"("max_tokens":0)", "max_tokens"},
      {R"("max_tokens":"5")", "max_tokens"},
      {R"("max_tokens":3,"min_tokens":4)", "min_tokens"},
      {R"("min_tokens":-1)", "min_tokens"},
      {R"("model":3)", "model"},
      {R"("priority":0.5)", "priority"},
      {R"("guided_json":{"a":1},"guided_regex":"a")", "guided_regex"},
      {R"("guided_choice":["a",1])", "guided_choice"},
      {R"("guided_grammar":{"a":1})", "guided_grammar"},
      {R"("structured_outputs":{"structural_tag":3})", "structured_outputs.structural_tag"},
      {R"("structured_outputs":{"whitespace_pattern":"x"})", "structured_outputs.whitespace_pattern"},
      {R"("structured_outputs":[1])", "structured_outputs"},
      {R"("tool_choice":"required")", "tool_choice"},
      {R"("response_format":"text")", "response_format"},
      {R"("suffix":"s")", "suffix"},
      {R"("best_of":2,"n":3)", "best_of"},
      {R"("best_of":9)", "best_of"},
      {R"("best_of":2,"stream":true)", "best_of"},
      {R"("use_beam_search":true)", "use_beam_search"},
      {R"("length_penalty":0.5)", "length_penalty"},
      {R"("chat_template":"{{x}}")", "chat_template"},
      {R"("modalities":["audio"])", "modalities"},
      {R"("truncate_prompt_tokens":0)", "truncate_prompt_tokens"},
      {R"("truncate_prompt_tokens":-2)", "truncate_prompt_tokens"},
      {R"("truncate_prompt_tokens":1.5)", "truncate_prompt_tokens"},
      {R"("truncation_side":"right")", "truncation_side"},
      {R"("prompt_logprobs":-1)", "prompt_logprobs"},
      {R"("prompt_logprobs":6)", "prompt_logprobs"},
      {R"("prompt_logprobs":true)", "prompt_logprobs"},
      {R"("prompt_logprobs":1,"stream":true)", "prompt_logprobs"},
      {R"("return_token_ids":1)", "return_token_ids"},
      {R"("return_tokens_as_token_ids":"yes")", "return_tokens_as_token_ids"},
      {R"("cache_salt":1)", "cache_salt"},
      {R"("bad_words":"x")", "bad_words"},
      {R"("bad_words":[""])", "bad_words"},
      {R"("bad_words":[3])", "bad_words"},
      {R"("allowed_token_ids":[1000])", "allowed_token_ids"},
      {R"("allowed_token_ids":7)", "allowed_token_ids"},
  };
  for (const Bad& bad : bads) {
    for (const Status& status : {completion(bad.fields).status(), chat(bad.fields).status()}) {
      EXPECT_EQ(status.code(), Code::kInvalidArgument) << bad.fields;
      EXPECT_EQ(status.param(), bad.param) << bad.fields;
    }
  }
}

TEST(Requests, CompletionLogprobsAndEcho) {
  EXPECT_EQ(completion(R"("logprobs":5)")->sampling.logprobs, 5);
  EXPECT_EQ(completion(R"("logprobs":5)")->sampling.prompt_logprobs, -1);
  EXPECT_EQ(completion(R"("logprobs":1,"echo":true,"max_tokens":0)")->sampling.prompt_logprobs, 1);
  EXPECT_EQ(completion(R"("logprobs":6)").status().param(), "logprobs");
  EXPECT_EQ(completion(R"("logprobs":true)").status().param(), "logprobs");
  EXPECT_EQ(completion(R"("echo":"yes")").status().param(), "echo");
}

TEST(Requests, PromptsTimesNIsBounded) {
  const auto refused = parse_completion_request(parse_json(R"({"prompt":["a","b","c"],"n":3})").value(), kLimits);
  EXPECT_EQ(refused.status().param(), "n");
}

TEST(Requests, ChatLogprobs) {
  EXPECT_EQ(chat(R"("logprobs":true)")->sampling.logprobs, 0);
  EXPECT_EQ(chat(R"("logprobs":true,"top_logprobs":5)")->sampling.logprobs, 5);
  EXPECT_EQ(chat(R"("logprobs":false)")->sampling.logprobs, -1);
  EXPECT_EQ(chat(R"("top_logprobs":0)")->sampling.logprobs, -1);
  EXPECT_EQ(chat(R"("top_logprobs":2)").status().param(), "top_logprobs");
  EXPECT_EQ(chat(R"("logprobs":true,"top_logprobs":6)").status().param(), "top_logprobs");
  EXPECT_EQ(chat(R"("logprobs":1)").status().param(), "logprobs");
  EXPECT_EQ(chat(R"("echo":true)").status().param(), "echo");
}

TEST(Requests, ChatMaxTokensHasTwoNames) {
  EXPECT_EQ(chat(R"("max_completion_tokens":7)")->max_tokens, 7);
  EXPECT_EQ(chat(R"("max_tokens":3,"max_completion_tokens":7)")->max_tokens, 7);
  EXPECT_EQ(chat(R"("max_completion_tokens":-7)").status().param(), "max_completion_tokens");
}

TEST(Requests, Messages) {
  const auto parsed =
      chat("", R"([{"role":"developer","content":"d"},{"role":"user","content":[{"type":"text","text":"a"},
                                 {"type":"text","text":"b"}]},{"role":"assistant","content":"c","name":null}])");
  ASSERT_TRUE(parsed.ok()) << parsed.status().message();
  EXPECT_EQ(parsed->messages.at(0)["role"], "system");
  EXPECT_EQ(parsed->messages.at(1)["content"], "a\nb");
  EXPECT_EQ(parsed->messages.at(2), (Json{{"role", "assistant"}, {"content", "c"}}));  // a null is absent

  const Bad bads[] = {
      {"[]", "messages"},
      {"{}", "messages"},
      {"null", "messages"},
      {"\"hi\"", "messages"},
      {"[1]", "messages[0]"},
      {R"([{"content":"a"}])", "messages[0].role"},
      {R"([{"role":"wizard","content":"a"}])", "messages[0].role"},
      {R"([{"role":3,"content":"a"}])", "messages[0].role"},
      {R"([{"role":"user"}])", "messages[0].content"},
      {R"([{"role":"tool","content":null}])", "messages[0].content"},
      {R"([{"role":"user","content":null}])", "messages[0].content"},
      {R"([{"role":"user","content":3}])", "messages[0].content"},
      {R"([{"role":"user","content":["a"]}])", "messages[0].content"},
      {R"([{"role":"user","content":[{"type":"image_url","image_url":{}}]}])", "messages[0].content"},
      {R"([{"role":"user","content":[{"type":"text"}]}])", "messages[0].content.text"},
      {R"([{"role":"user","content":[{"type":"text","text":4}]}])", "messages[0].content.text"},
      {R"([{"role":"user","content":"a","audio":{"id":"x"}}])", "messages[0].audio"},
      {R"([{"role":"assistant","function_call":{"name":"f"}}])", "messages[0].function_call"},
      {R"([{"role":"assistant","tool_calls":{}}])", "messages[0].tool_calls"},
      {R"([{"role":"assistant","tool_calls":[3]}])", "messages[0].tool_calls[0]"},
      {R"([{"role":"assistant","tool_calls":[{}]}])", "messages[0].tool_calls[0].function"},
      {R"([{"role":"assistant","tool_calls":[{"function":{}}]}])", "messages[0].tool_calls[0].function.name"},
      {R"([{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{"}}]}])",
       "messages[0].tool_calls[0].function.arguments"},
      {R"([{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":[1]}}]}])",
       "messages[0].tool_calls[0].function.arguments"},
  };
  for (const Bad& bad : bads) EXPECT_EQ(chat("", bad.fields).status().param(), bad.param) << bad.fields;
}

TEST(Requests, MessagesKeepWhatATemplateMayRead) {
  const auto parsed = chat("", R"([
      {"role":"user","name":"ada","content":"a","weight":1.5},
      {"role":"assistant","content":null,"refusal":null,"reasoning_content":"why","tool_calls":[
        {"id":"c1","type":"function","function":{"name":"f","arguments":"{\"z\":1,\"a\":[2]}"}},
        {"id":"c2","type":"function","function":{"name":"g","arguments":""}}]},
      {"role":"tool","tool_call_id":"c1","content":"3"},
      {"role":"assistant","content":"b","tool_calls":[]}])");
  ASSERT_TRUE(parsed.ok()) << parsed.status().message();
  EXPECT_EQ(parsed->messages.at(0), parse_json(R"({"name":"ada","weight":1.5,"role":"user","content":"a"})").value());
  const Json& call = parsed->messages.at(1);
  EXPECT_EQ(call["reasoning_content"], "why");
  EXPECT_EQ(call["content"], "");
  EXPECT_FALSE(call.contains("refusal"));
  EXPECT_EQ(call["tool_calls"][0]["id"], "c1");
  EXPECT_EQ(call["tool_calls"][0]["function"]["arguments"].dump(), R"({"z":1,"a":[2]})");  // in the client's order
  EXPECT_EQ(call["tool_calls"][1]["function"]["arguments"], Json::object());
  EXPECT_EQ(parsed->messages.at(2)["tool_call_id"], "c1");
  EXPECT_FALSE(parsed->messages.at(3).contains("tool_calls"));
}

TEST(Requests, ControlTokensInAPrompt) {
  EXPECT_FALSE(completion("")->split_special_tokens);
  EXPECT_TRUE(completion(R"("split_special_tokens":true)")->split_special_tokens);
  EXPECT_EQ(completion(R"("split_special_tokens":1)").status().param(), "split_special_tokens");
  EXPECT_TRUE(chat(R"("split_special_tokens":true,"add_special_tokens":false)").ok());
  EXPECT_EQ(chat(R"("split_special_tokens":false)").status().param(), "split_special_tokens");
  EXPECT_EQ(chat(R"("add_special_tokens":true)").status().param(), "add_special_tokens");
}

TEST(Requests, WhatVllmTakesBeyondOpenAI) {
  const std::string_view fields = R"("n":2,"best_of":3,"truncate_prompt_tokens":7,"prompt_logprobs":4,
      "return_token_ids":true,"return_tokens_as_token_ids":true,"cache_salt":"s","truncation_side":"left")";
  for (const GenerationRequest& r : {static_cast<GenerationRequest>(completion(fields).value()),
                                     static_cast<GenerationRequest>(chat(fields).value())}) {
    EXPECT_EQ(r.n, 2);
    EXPECT_EQ(r.best_of, 3);
    EXPECT_EQ(r.truncate_prompt_tokens, 7);
    EXPECT_EQ(r.prompt_logprobs, 4);
    EXPECT_EQ(r.sampling.prompt_logprobs, 4);
    EXPECT_TRUE(r.return_token_ids && r.tokens_as_ids);
    EXPECT_EQ(r.cache_salt, "s");
  }
  EXPECT_EQ(completion("")->best_of, 1);
  const auto rules = completion(R"("allowed_token_ids":[3,4],"bad_words":["a","b c"])").value();
  EXPECT_EQ(rules.allowed_token_ids, (std::vector<int32_t>{3, 4}));
  EXPECT_EQ(rules.bad_words, (std::vector<std::string>{"a", "b c"}));
  EXPECT_EQ(completion(R"("n":4)")->best_of, 4);
  EXPECT_FALSE(completion(R"("prompt_logprobs":false)")->prompt_logprobs);
  EXPECT_EQ(completion(R"("echo":true,"logprobs":2,"prompt_logprobs":1)")->sampling.prompt_logprobs, 2);
  EXPECT_TRUE(completion(R"("max_tokens":0,"prompt_logprobs":1)").ok());
  EXPECT_EQ(
      parse_completion_request(parse_json(R"({"prompt":["a","b","c"],"best_of":3})").value(), kLimits).status().param(),
      "best_of");
}

TEST(Requests, WhatAChatTemplateReads) {
  const auto r =
      chat(R"("documents":[{"title":"t"}],"chat_template_kwargs":{"enable_thinking":false,"x":[1]})").value();
  EXPECT_EQ(r.documents, parse_json(R"([{"title":"t"}])", {.root_must_be_object = false}).value());
  EXPECT_EQ(r.template_variables, parse_json(R"({"enable_thinking":false,"x":[1]})").value());
  EXPECT_TRUE(r.add_generation_prompt);
  EXPECT_TRUE(chat("")->documents.is_null());
  EXPECT_FALSE(chat(R"("continue_final_message":true)")->add_generation_prompt);
  EXPECT_TRUE(chat(R"("continue_final_message":true,"add_generation_prompt":false)")->continue_final_message);
  const Bad bads[] = {
      {R"("documents":{"a":1})", "documents"},
      {R"("documents":["a"])", "documents"},
      {R"("chat_template_kwargs":[1])", "chat_template_kwargs"},
      {R"("chat_template_kwargs":{"messages":[]})", "chat_template_kwargs"},
      {R"("chat_template_kwargs":{"add_generation_prompt":false})", "chat_template_kwargs"},
      {R"("chat_template_kwargs":{"bos_token":"<|im_end|>"})", "chat_template_kwargs"},
      {R"("chat_template_kwargs":{"my_token":"<|im_end|>"})", "chat_template_kwargs"},
      {R"("continue_final_message":true,"add_generation_prompt":true)", "continue_final_message"},
      {R"("continue_final_message":3)", "continue_final_message"},
  };
  for (const Bad& bad : bads) EXPECT_EQ(chat(bad.fields).status().param(), bad.param) << bad.fields;
  EXPECT_EQ(chat(R"("continue_final_message":true)", R"([{"role":"assistant","content":null}])").status().param(),
            "continue_final_message");
}

TEST(Requests, MessagesNeverRepeatTheUsersBytes) {
  for (const std::string_view fields : {R"("stop":["zebra",3])", R"("model":["zebra"])", R"("logit_bias":{"zebra":1})",
                                        R"("tool_choice":"zebra")", R"("response_format":"zebra")"}) {
    EXPECT_EQ(chat(fields).status().message().find("zebra"), std::string::npos) << fields;
    EXPECT_FALSE(chat(fields).ok());
  }
}

TEST(ChatRequest, TreesOfArgumentsAreBoundedInSum) {
  std::string arguments = "{\\\"a\\\":[0";
  for (int i = 0; i < 20'000; ++i) arguments += ",{}";
  arguments += "]}";
  const auto parse_calls = [&](int64_t count) {
    std::string text = R"({"messages":[)";
    for (int64_t i = 0; i < count; ++i) {
      append(text, cat(i ? "," : "", R"({"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":")",
                       arguments, "\"}}]}"));
    }
    const Json body = parse_json(text + "]}").value();
    return parse_chat_request(body, {1000, 1000}).status().message();
  };
  EXPECT_EQ(parse_calls(10), "");
  EXPECT_EQ(parse_calls(40), "messages[26].tool_calls[0].function.arguments must be a JSON object");
}

}  // namespace
}  // namespace hearth
