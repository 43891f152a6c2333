// From a request's body to its answer's bytes, against the test engine.
#include "api/serving.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <nlohmann/json.hpp>

#include "api/test_engine.h"

namespace hearth {
namespace {

using std::chrono::milliseconds;

class CountingObserver final : public ServingObserver {
 public:
  void first_token(int64_t, Duration) override { ++firsts; }
  void next_tokens(int64_t, Duration, int64_t count) override { nexts += count; }
  void finished(const Finished& request) override {
    ++reasons[request.reason];
    last = request;
  }
  int64_t firsts = 0, nexts = 0;
  std::map<std::string, int64_t> reasons;
  std::optional<Finished> last;
};

class ServingTest : public testing::Test {
 protected:
  void start(TestEngine::Options options = {}) {
    serving_.reset();
    engine_.emplace(options);
    serving_.emplace(ServingOptions{{"test", "alias"}, {kTestVocabulary, 200, 5, 8}}, *tokenizer_, &chat_template_,
                     *engine_, clock_, &observer_);
  }
  void start_with(const AnswerFormat& format) {
    serving_.reset();
    engine_.emplace(TestEngine::Options{});
    ServingOptions options{{"test", "alias"}, {kTestVocabulary, 400, 5, 8}};
    options.format = format;
    options.end_tokens = {kTestEnd};
    serving_.emplace(options, *tokenizer_, &chat_template_, *engine_, clock_, &observer_);
  }
  void SetUp() override { start(); }

  using Started = Serving::OrError<std::shared_ptr<Answer>>;
  Started submit(std::string_view body, bool chat) {
    const auto wake = [this] {
      std::lock_guard lock(mutex_);
      woken_ = true;
      wakes_.notify_all();
    };
    return chat ? serving_->chat(body, clock_.now(), wake) : serving_->completions(body, clock_.now(), wake);
  }
  // Advances as the I/O thread would, until the end.
  Answer::State finish(Answer& answer, std::string& out) {
    while (true) {
      const Answer::State state = answer.advance(out);
      if (state != Answer::State::kRunning) return state;
      std::unique_lock lock(mutex_);
      wakes_.wait(lock, [this] { return woken_; });
      woken_ = false;
    }
  }
  std::string run(std::string_view body, bool chat) {
    auto started = submit(body, chat);
    if (auto* error = std::get_if<ApiError>(&started)) return error->body();
    std::string out;
    const auto& answer = std::get<0>(started);
    if (finish(*answer, out) == Answer::State::kFailed) return answer->error().body();
    return out;
  }
  Json completion(std::string_view body) { return parse_json(run(body, false)).value(); }
  Json chat(std::string_view body) { return parse_json(run(body, true)).value(); }
  // The chunks of a stream; checks the framing.
  std::vector<Json> chunks(std::string_view body, bool is_chat) {
    std::string text = run(body, is_chat);
    std::vector<Json> out;
    EXPECT_TRUE(text.ends_with("data: [DONE]\n\n")) << text;
    size_t at = 0;
    while (at < text.size()) {
      const size_t end = text.find("\n\n", at);
      EXPECT_EQ(text.compare(at, 6, "data: "), 0);
      const std::string data = text.substr(at + 6, end - at - 6);
      if (data != "[DONE]") out.push_back(parse_json(data).value());
      at = end + 2;
    }
    return out;
  }
  ApiError refused(std::string_view body, bool is_chat) {
    auto started = submit(body, is_chat);
    EXPECT_TRUE(std::holds_alternative<ApiError>(started)) << body;
    return std::holds_alternative<ApiError>(started) ? std::get<ApiError>(started) : ApiError{};
  }

  SteadyClock clock_;
  CountingObserver observer_;
  std::unique_ptr<Tokenizer> tokenizer_ = make_test_tokenizer();
  ChatTemplate chat_template_ = make_test_template();
  std::optional<TestEngine> engine_;
  std::optional<Serving> serving_;
  std::mutex mutex_;
  std::condition_variable wakes_;
  bool woken_ = false;
};

TEST_F(ServingTest, CompletionOfAText) {
  const Json a = completion(R"({"model":"alias","prompt":"abc","max_tokens":5})");
  EXPECT_EQ(a["object"], "text_completion");
  EXPECT_EQ(a["model"], "test");
  EXPECT_EQ(a["choices"][0]["text"], "abcab");
  EXPECT_EQ(a["choices"][0]["finish_reason"], "length");
  EXPECT_TRUE(a["choices"][0]["logprobs"].is_null());
  EXPECT_EQ(a["usage"]["prompt_tokens"], 3);
  EXPECT_EQ(a["usage"]["completion_tokens"], 5);
  EXPECT_EQ(a["usage"]["total_tokens"], 8);
  EXPECT_TRUE(a["id"].get<std::string>().starts_with("cmpl-"));
  EXPECT_EQ(completion(R"({"prompt":"abc"})")["usage"]["completion_tokens"], 16);
}

TEST_F(ServingTest, AStopTokenIsCountedAndHidden) {
  const Json a = completion(R"({"prompt":[72,105,256],"max_tokens":50})");
  EXPECT_EQ(a["choices"][0]["text"], "Hi");
  EXPECT_EQ(a["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(a["usage"]["completion_tokens"], 3);
  EXPECT_EQ(completion(R"({"prompt":[72,105],"stop_token_ids":[105]})")["choices"][0]["text"], "H");
  EXPECT_EQ(completion(R"({"prompt":[72,256],"ignore_eos":true,"max_tokens":4})")["choices"][0]["text"], "HH");
}

TEST_F(ServingTest, ManyPromptsAndChoices) {
  const Json a = completion(R"({"prompt":["ab",[99,100],"ef"],"n":2,"seed":7,"max_tokens":2})");
  ASSERT_EQ(a["choices"].size(), 6u);
  const char* texts[] = {"ab", "ab", "cd", "cd", "ef", "ef"};
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(a["choices"][i]["index"], i);
    EXPECT_EQ(a["choices"][i]["text"], texts[i]);
    EXPECT_EQ(engine_->submitted()[i].seed, 7 + i % 2);
  }
  EXPECT_EQ(a["usage"]["prompt_tokens"], 6);  // each prompt once
  EXPECT_EQ(a["usage"]["completion_tokens"], 12);
}

TEST_F(ServingTest, WithoutASeedOneIsDrawn) {
  completion(R"({"prompt":"a"})");
  completion(R"({"prompt":"a"})");
  EXPECT_NE(engine_->submitted()[0].seed, engine_->submitted()[1].seed);
}

TEST_F(ServingTest, StopStringsEndTheTextAndCancel) {
  start({.pause = milliseconds(1)});
  const Json a = completion(R"({"prompt":"abcdef","max_tokens":100,"stop":["zz","de"]})");
  EXPECT_EQ(a["choices"][0]["text"], "abc");
  EXPECT_EQ(a["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(a["usage"]["completion_tokens"], 5);
  EXPECT_EQ(engine_->cancelled(), engine_->submitted_ids());
  EXPECT_EQ(
      completion(R"({"prompt":"abcdef","max_tokens":100,"stop":"de","include_stop_str_in_output":true})")["choices"][0]
                                                                                                         ["text"],
      "abcde");
  // min_tokens keeps a stop string from ending too early
  // A control token shows no text; the engine stops at it, whatever the model calls its end.
  const auto stopped = [&](std::string_view more) {
    return completion(cat(R"({"prompt":"ab<|end|>cd","max_tokens":100,"ignore_eos":true,"stop":["zz","<|end|>"])", more,
                          "}"))["choices"][0];
  };
  EXPECT_EQ(stopped("")["text"], "ab");
  EXPECT_EQ(stopped("")["finish_reason"], "stop");
  EXPECT_EQ(stopped(R"(,"include_stop_str_in_output":true)")["text"], "ab<|end|>");
  EXPECT_EQ(stopped(R"(,"skip_special_tokens":false)")["text"], "ab");
  EXPECT_EQ(stopped(R"(,"skip_special_tokens":false,"include_stop_str_in_output":true)")["text"], "ab<|end|>");
  // So it does where letters stand around it.
  for (const char* stop : {"b<|end|>", "b<|end|>c", "zz\",\"<|end|>cd"}) {
    const auto ends = [&](std::string_view more) {
      return completion(cat(R"({"prompt":"ab<|end|>cd","max_tokens":100,"ignore_eos":true,"stop":[")", stop, "\"]",
                            more, "}"))["choices"][0];
    };
    const bool takes_b = stop[0] == 'b';
    EXPECT_EQ(ends("")["text"], takes_b ? "a" : "ab") << stop;
    EXPECT_EQ(ends("")["finish_reason"], "stop") << stop;
    EXPECT_EQ(ends(R"(,"include_stop_str_in_output":true)")["text"], cat("ab<|end|>", takes_b ? stop + 8 : "cd"))
        << stop;
    EXPECT_EQ(ends(R"(,"skip_special_tokens":false)")["text"], takes_b ? "a" : "ab") << stop;
  }
  // Where the model ends at the token by itself, too; and hidden tokens do not part other stop strings.
  EXPECT_EQ(completion(R"({"prompt":"ab<|end|>","stop":"b<|end|>"})")["choices"][0]["text"], "a");
  EXPECT_EQ(completion(R"({"prompt":"ab<|end|>","stop":"x<|end|>"})")["choices"][0]["text"], "ab");
  EXPECT_EQ(completion(R"({"prompt":"ab<|end|>c","max_tokens":9,"ignore_eos":true,"stop":"bc"})")["choices"][0]["text"],
            "a");
  EXPECT_EQ(completion(R"({"prompt":"abc","max_tokens":100,"stop":"b","min_tokens":4})")["choices"][0]["text"], "abca");
  // a beginning of one at the end of the text is text
  EXPECT_EQ(completion(R"({"prompt":"abcd","max_tokens":4,"stop":"dx"})")["choices"][0]["text"], "abcd");
}

TEST_F(ServingTest, LmEvalShape) {
  const Json a = completion(
      R"({"prompt":[[97,98,99],[100,101]],"max_tokens":1,"logprobs":1,"echo":true,"temperature":0,"seed":1234})");
  for (size_t c = 0; c < 2; ++c) {
    const Json& choice = a["choices"][c];
    const Json& logprobs = choice["logprobs"];
    const size_t expected = c == 0 ? 4 : 3;
    for (const char* list : {"tokens", "token_logprobs", "top_logprobs", "text_offset"}) {
      ASSERT_EQ(logprobs[list].size(), expected) << list;
    }
    EXPECT_TRUE(logprobs["token_logprobs"][0].is_null());
    EXPECT_TRUE(logprobs["top_logprobs"][0].is_null());
    for (size_t i = 1; i < expected; ++i) {
      double best = -1e9;
      for (const auto& [token, value] : logprobs["top_logprobs"][i].items()) best = std::max(best, value.get<double>());
      EXPECT_EQ(best, logprobs["token_logprobs"][i].get<double>());  // to the bit
      EXPECT_EQ(logprobs["text_offset"][i], i);
    }
  }
  EXPECT_EQ(a["choices"][0]["text"], "abca");
  EXPECT_EQ(a["choices"][0]["logprobs"]["tokens"], Json::array({"a", "b", "c", "a"}));
  EXPECT_EQ(a["choices"][1]["text"], "ded");
}

TEST_F(ServingTest, EchoOfThePromptAlone) {
  const Json a = completion(R"({"prompt":"abc","max_tokens":0,"logprobs":2,"echo":true})");
  EXPECT_EQ(a["choices"][0]["text"], "abc");
  EXPECT_EQ(a["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(a["choices"][0]["logprobs"]["tokens"].size(), 3u);
  EXPECT_EQ(a["choices"][0]["logprobs"]["top_logprobs"][1].size(), 2u);
  EXPECT_EQ(a["usage"]["completion_tokens"], 0);
  const auto stream = chunks(R"({"prompt":"abc","max_tokens":2,"echo":true,"stream":true})", false);
  std::string text;
  for (const Json& chunk : stream) text += chunk["choices"][0]["text"].get<std::string>();
  EXPECT_EQ(text, "abcab");
}

TEST_F(ServingTest, TokensThatArePartsOfACharacterHaveNamesOfTheirOwn) {
  // The first two bytes of an emoji; what is left of it at the end is one replacement character.
  const Json a = completion(R"({"prompt":[240,159],"max_tokens":2,"logprobs":3})");
  EXPECT_EQ(a["choices"][0]["text"], "\uFFFD");
  EXPECT_EQ(a["choices"][0]["logprobs"]["tokens"], Json::array({"bytes:\\xf0", "bytes:\\x9f"}));
  EXPECT_EQ(a["choices"][0]["logprobs"]["top_logprobs"][0].size(), 3u);
}

TEST_F(ServingTest, ChatAndItsLogprobs) {
  const Json a =
      chat(R"({"messages":[{"role":"user","content":"hé"}],"max_tokens":3,"logprobs":true,"top_logprobs":2})");
  EXPECT_EQ(a["object"], "chat.completion");
  EXPECT_EQ(a["choices"][0]["message"], (Json{{"role", "assistant"}, {"content", "hé"}}));
  const Json& content = a["choices"][0]["logprobs"]["content"];
  ASSERT_EQ(content.size(), 3u);
  EXPECT_EQ(content[0]["token"], "h");
  EXPECT_EQ(content[0]["bytes"], Json::array({104}));
  EXPECT_EQ(content[1]["bytes"], Json::array({0xC3}));
  EXPECT_EQ(content[1]["token"], "\uFFFD");
  EXPECT_EQ(content[2]["top_logprobs"].size(), 2u);
  EXPECT_EQ(content[2]["top_logprobs"][0]["logprob"], content[2]["logprob"]);
}

TEST_F(ServingTest, ChatWithoutMaxTokensMayFillTheContext) {
  chat(R"({"messages":[{"role":"user","content":"hello"}]})");
  EXPECT_EQ(engine_->submitted()[0].max_tokens, 195);
}

TEST_F(ServingTest, ChatStream) {
  const auto got = chunks(R"({"messages":[{"role":"user","content":"a€b"}],"max_tokens":5,"stream":true,
                 "stream_options":{"include_usage":true}})",
                          true);
  std::string text;
  for (size_t i = 0; i + 1 < got.size(); ++i) {
    const Json& choice = got[i]["choices"][0];
    EXPECT_EQ(got[i]["object"], "chat.completion.chunk");
    EXPECT_EQ(choice["delta"].contains("role"), i == 0);
    EXPECT_NE(choice["delta"]["content"], "");
    EXPECT_EQ(choice["finish_reason"].is_null(), i + 2 < got.size());
    EXPECT_TRUE(got[i]["usage"].is_null() && got[i].contains("usage"));
    EXPECT_EQ(got[i]["id"], got[0]["id"]);
    text += choice["delta"]["content"].get<std::string>();
  }
  EXPECT_EQ(text, "a€b");
  EXPECT_EQ(got.back()["choices"].size(), 0u);
  EXPECT_EQ(got.back()["usage"]["completion_tokens"], 5);
}

TEST_F(ServingTest, StreamUsageIsAbsentOrContinuous) {
  for (const Json& chunk : chunks(R"({"prompt":"ab","max_tokens":3,"stream":true})", false)) {
    EXPECT_FALSE(chunk.contains("usage"));
    EXPECT_EQ(chunk["object"], "text_completion");
  }
  start({.pause = milliseconds(2)});
  const auto got =
      chunks(R"({"prompt":"ab","max_tokens":4,"stream":true,"stream_options":{"continuous_usage_stats":true}})", false);
  int64_t last = 0;
  for (const Json& chunk : got) {
    EXPECT_GT(chunk["usage"]["completion_tokens"].get<int64_t>(), last);
    last = chunk["usage"]["completion_tokens"].get<int64_t>();
  }
  EXPECT_EQ(last, 4);
}

TEST_F(ServingTest, AnAnswerWithoutTextStillHasRoleAndReason) {
  const auto got = chunks(R"({"messages":[{"role":"user","content":"x"}],"stop_token_ids":[120],"stream":true})", true);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0]["choices"][0]["delta"], (Json{{"role", "assistant"}, {"content", ""}}));
  EXPECT_EQ(got[0]["choices"][0]["finish_reason"], "stop");
}

TEST_F(ServingTest, RefusalsOfTheContext) {
  const std::string long_text(200, 'a');
  const auto code = [&](std::string_view body, bool is_chat) { return refused(body, is_chat).code; };
  EXPECT_EQ(code(cat("{\"prompt\":\"", long_text, "\"}"), false), "context_length_exceeded");
  EXPECT_EQ(code(R"({"prompt":"abc","max_tokens":198})", false), "context_length_exceeded");
  EXPECT_EQ(refused(R"({"prompt":"abc","max_tokens":198})", false).param, "max_tokens");
  // The words by which clients know that another model or a shorter prompt is needed.
  for (const std::string& prompt : {std::string(200, 'a'), std::string(199, 'a'), std::string(4 << 20, 'a')}) {
    const std::string message = refused(cat(R"({"max_tokens":2,"prompt":")", prompt, "\"}"), false).message;
    EXPECT_EQ(message.find("This model's maximum context length is 200 tokens"), 0u) << message;
  }
  EXPECT_EQ(code(R"({"prompt":"abc","max_tokens":9223372036854775807})", false), "context_length_exceeded");
  EXPECT_EQ(code(cat(R"({"messages":[{"role":"user","content":")", long_text, R"("}]})"), true),
            "context_length_exceeded");
  EXPECT_EQ(code(cat("{\"prompt\":\"", std::string(4 << 20, 'a'), "\"}"), false), "context_length_exceeded");
  EXPECT_EQ(refused(R"({"prompt":""})", false).param, "prompt");
  EXPECT_EQ(refused(R"({"prompt":"a","min_tokens":17})", false).param, "min_tokens");
  EXPECT_EQ(completion(R"({"prompt":"abc","max_tokens":197})")["usage"]["completion_tokens"], 197);
  EXPECT_TRUE(engine_->submitted().size() == 1);
}

TEST_F(ServingTest, RefusalsOfJsonModelAndQueue) {
  EXPECT_EQ(refused("{", false).http_status, 400);
  EXPECT_EQ(refused("[]", true).http_status, 400);
  EXPECT_EQ(refused(R"({"model":"other","prompt":"a"})", false).code, "model_not_found");
  EXPECT_EQ(refused(R"({"model":"other","prompt":"a"})", false).http_status, 404);
  engine_->waiting = 10;
  EXPECT_EQ(refused(R"({"prompt":"a"})", false).http_status, 429);
  engine_->waiting = 9;
  EXPECT_EQ(completion(R"({"prompt":"a"})")["choices"].size(), 1u);
}

TEST_F(ServingTest, WhenNotAllChoicesFitNoneStays) {
  start({.pause = milliseconds(5), .room = 2});
  EXPECT_EQ(refused(R"({"prompt":"a","n":3})", false).http_status, 429);
  auto cancelled = engine_->cancelled();
  std::sort(cancelled.begin(), cancelled.end());
  EXPECT_EQ(cancelled, engine_->submitted_ids());
}

TEST_F(ServingTest, AnErrorBeforeAndAfterTheFirstToken) {
  start({.fail_after = 0});
  for (const bool stream : {false, true}) {
    auto started = submit(cat(R"({"prompt":"a","stream":)", stream, "}"), false);
    std::string out;
    EXPECT_EQ(finish(*std::get<0>(started), out), Answer::State::kFailed);
    EXPECT_EQ(out, "");
    EXPECT_EQ(std::get<0>(started)->error().http_status, 500);
  }
  start({.pause = milliseconds(50), .fail_after = 3});
  const std::string out = run(R"({"prompt":"abcdef","stream":true,"n":2})", false);
  EXPECT_TRUE(out.ends_with("\n\ndata: [DONE]\n\n"));
  EXPECT_NE(out.find("data: {\"error\":{"), out.npos);
  EXPECT_GE(observer_.reasons["error"], 1);
}

TEST_F(ServingTest, CancelReachesTheEngineForEveryChoice) {
  start({.pause = milliseconds(1)});
  auto started = submit(R"({"prompt":"abc","n":3,"max_tokens":190})", false);
  const auto answer = std::get<0>(started);
  answer->cancel();
  EXPECT_EQ(engine_->cancelled(), engine_->submitted_ids());
  EXPECT_EQ(observer_.reasons["abort"], 3);
}

TEST_F(ServingTest, DrainingEndsWhatIsLeftWith503) {
  start({.pause = milliseconds(20)});
  auto started = submit(R"({"prompt":"abc","max_tokens":190})", false);
  engine_->drain(milliseconds(1));
  std::string out;
  EXPECT_EQ(finish(*std::get<0>(started), out), Answer::State::kFailed);
  EXPECT_EQ(std::get<0>(started)->error().http_status, 503);
  EXPECT_EQ(refused(R"({"prompt":"abc"})", false).http_status, 503);
}

TEST_F(ServingTest, ObserverCounts) {
  completion(R"({"prompt":"abc","max_tokens":5,"n":2})");
  EXPECT_EQ(observer_.firsts, 2);
  EXPECT_EQ(observer_.nexts, 8);
  EXPECT_EQ(observer_.reasons["length"], 2);
  EXPECT_EQ(observer_.last->since_scheduled, observer_.last->since_arrival);
  EXPECT_LT(*observer_.last->since_first_token, observer_.last->since_arrival);
  // Stopped by a string: the engine's own last event is not waited for.
  completion(R"({"prompt":"abc","max_tokens":5,"stop":"b"})");
  EXPECT_EQ(observer_.reasons["stop"], 1);
  EXPECT_EQ(observer_.last->since_scheduled, observer_.last->since_arrival);
  completion(R"({"prompt":"abc","max_tokens":0,"echo":true,"logprobs":1})");
  EXPECT_TRUE(observer_.last->since_scheduled);
  EXPECT_FALSE(observer_.last->since_first_token);
}

TEST_F(ServingTest, TokenizeAndBack) {
  const auto json = [](const Serving::OrError<std::string>& made) {
    const auto* error = std::get_if<ApiError>(&made);
    return parse_json(error ? error->body() : std::get<0>(made)).value();
  };
  Json t = json(serving_->tokenize(R"({"prompt":"a the","return_token_strs":true})"));
  EXPECT_EQ(t["count"], t["tokens"].size());
  EXPECT_EQ(t["token_strs"].size(), t["tokens"].size());
  EXPECT_EQ(t["max_model_len"], 200);
  EXPECT_EQ(json(serving_->detokenize(Json{{"tokens", t["tokens"]}}.dump()))["prompt"], "a the");
  EXPECT_EQ(json(serving_->tokenize(R"({"messages":[{"role":"user","content":"ab"}]})"))["tokens"],
            Json::array({97, 98}));
  EXPECT_TRUE(json(serving_->tokenize("{}")).contains("error"));
  EXPECT_TRUE(json(serving_->tokenize(R"({"prompt":3})")).contains("error"));
  EXPECT_TRUE(json(serving_->detokenize("{}")).contains("error"));
  EXPECT_TRUE(json(serving_->detokenize(R"({"tokens":[258]})")).contains("error"));
  EXPECT_TRUE(json(serving_->detokenize(R"({"tokens":["a"]})")).contains("error"));
}

TEST_F(ServingTest, ARawPromptNamesControlTokensAndAMessageNever) {
  const auto tokens = [&](std::string_view body) {
    return parse_json(std::get<0>(serving_->tokenize(body))).value()["tokens"];
  };
  EXPECT_EQ(tokens(R"({"prompt":"a<|end|>"})"), Json::array({97, kTestEnd}));
  EXPECT_EQ(tokens(R"({"prompt":"a<|end|>","split_special_tokens":true})").size(), 8u);
  EXPECT_EQ(tokens(R"({"messages":[{"role":"user","content":"a<|end|>"}]})").size(), 8u);
  // The engine says its prompt again, so a control token in it ends the answer.
  Json a = completion(R"({"prompt":"a<|end|>","max_tokens":20})");
  EXPECT_EQ(a["usage"]["prompt_tokens"], 2);
  EXPECT_EQ(a["choices"][0]["finish_reason"], "stop");
  a = completion(R"({"prompt":"a<|end|>","max_tokens":8,"split_special_tokens":true})");
  EXPECT_EQ(a["usage"]["prompt_tokens"], 8);
  EXPECT_EQ(a["choices"][0]["text"], "a<|end|>");
  EXPECT_EQ(completion(R"({"prompt":"a<|end|>","max_tokens":1,"echo":true})")["choices"][0]["text"], "a<|end|>a");
}

TEST_F(ServingTest, ATemplateReadsEveryFieldOfAMessage) {
  chat_template_ =
      ChatTemplate::parse(
          "{% for m in messages %}[{{ m.role }}|{{ m.name }}|{{ m.reasoning_content }}|{{ m.content }}"
          "{% for c in m.tool_calls %}|{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}"
          "|{{ m.tool_call_id }}]{% endfor %}")
          .value();
  const Json made = parse_json(std::get<0>(serving_->tokenize(R"({"messages":[
      {"role":"user","name":"ada","content":"q"},
      {"role":"assistant","content":null,"reasoning_content":"<|end|>","tool_calls":[
        {"id":"c","type":"function","function":{"name":"f","arguments":"{\"b\":1,\"a\":2}"}}]},
      {"role":"tool","tool_call_id":"c","content":"3"}]})")))
                        .value();
  const Json text = parse_json(std::get<0>(serving_->detokenize(Json{{"tokens", made["tokens"]}}.dump()))).value();
  EXPECT_EQ(text["prompt"], R"([user|ada||q|][assistant||<|end|>||f{"b": 1, "a": 2}|][tool|||3|c])");
  for (const Json& token : made["tokens"]) EXPECT_NE(token, kTestEnd);
}

TEST_F(ServingTest, PromptLogprobsAndTokenIds) {
  Json a = completion(R"({"prompt":["abc","de"],"max_tokens":2,"prompt_logprobs":2,"return_token_ids":true})");
  const Json& choice = a["choices"][0];
  EXPECT_EQ(choice["prompt_token_ids"], Json::array({97, 98, 99}));
  EXPECT_EQ(choice["token_ids"], Json::array({97, 98}));
  EXPECT_TRUE(choice["logprobs"].is_null());
  ASSERT_EQ(choice["prompt_logprobs"].size(), 3u);
  EXPECT_TRUE(choice["prompt_logprobs"][0].is_null());
  const Json& at = choice["prompt_logprobs"][1];
  EXPECT_EQ(at.size(), 2u);
  EXPECT_EQ(at["98"]["decoded_token"], "b");
  EXPECT_EQ(at["98"]["rank"], 1);
  EXPECT_FLOAT_EQ(at["98"]["logprob"].get<float>(), TestEngine::logprob_of(98, 2).logprob);
  EXPECT_EQ(at["99"]["rank"], 2);
  EXPECT_EQ(a["choices"][1]["prompt_token_ids"], Json::array({100, 101}));

  a = chat(
      R"({"messages":[{"role":"user","content":"hi"}],"max_tokens":2,"prompt_logprobs":0,"return_token_ids":true})");
  EXPECT_EQ(a["prompt_token_ids"], Json::array({104, 105}));
  EXPECT_EQ(a["prompt_logprobs"][1]["105"]["decoded_token"], "i");
  EXPECT_EQ(a["choices"][0]["token_ids"], Json::array({104, 105}));
  EXPECT_FALSE(chat(R"({"messages":[{"role":"user","content":"hi"}],"max_tokens":2})").contains("prompt_token_ids"));

  Json ids = Json::array();
  for (const bool is_chat : {true, false}) {
    const auto stream = chunks(is_chat ? R"({"messages":[{"role":"user","content":"hi"}],"max_tokens":3,"stream":true,
                                            "return_token_ids":true})"
                                       : R"({"prompt":"hi","max_tokens":3,"stream":true,"return_token_ids":true})",
                               is_chat);
    ids.clear();
    for (size_t i = 0; i < stream.size(); ++i) {
      const Json& holder = is_chat ? stream[i] : stream[i]["choices"][0];
      EXPECT_EQ(holder.contains("prompt_token_ids"), i == 0);
      for (const Json& id : stream[i]["choices"][0]["token_ids"]) ids.push_back(id);
    }
    EXPECT_EQ(ids, Json::array({104, 105, 104}));
  }
}

TEST_F(ServingTest, LogprobsOfOneAnswerAreBounded) {
  // 1,000 tokens with 6 each are 6,000 a choice.
  engine_.emplace(TestEngine::Options{});
  serving_.emplace(ServingOptions{{"test"}, {kTestVocabulary, 20'000, 5, 500}}, *tokenizer_, &chat_template_, *engine_,
                   clock_, &observer_);
  const std::string prompt(1000, 'a');
  const auto body = [&](int64_t n, std::string_view more) {
    return cat(R"({"prompt":")", prompt, R"(","max_tokens":1,"n":)", n, ",", more, "}");
  };
  EXPECT_EQ(refused(body(400, R"("echo":true,"logprobs":5)"), false).param, "logprobs");
  EXPECT_EQ(refused(body(400, R"("prompt_logprobs":5)"), false).param, "prompt_logprobs");
  EXPECT_TRUE(completion(body(3, R"("echo":true,"logprobs":5)")).contains("choices"));
  EXPECT_EQ(refused(R"({"prompt":"a","max_tokens":15000,"n":30,"logprobs":5})", false).param, "logprobs");
  EXPECT_EQ(engine_->submitted().size(), 3u);
}

TEST_F(ServingTest, TokensAsTokenIds) {
  Json a = completion(
      R"({"prompt":"ab","max_tokens":1,"logprobs":1,"echo":true,"prompt_logprobs":3,"return_tokens_as_token_ids":true})");
  const Json& logprobs = a["choices"][0]["logprobs"];
  EXPECT_EQ(logprobs["tokens"], Json::array({"token_id:97", "token_id:98", "token_id:97"}));
  EXPECT_EQ(logprobs["top_logprobs"][1].size(), 1u) << "prompt_logprobs asked for more, logprobs did not";
  EXPECT_TRUE(logprobs["top_logprobs"][1].contains("token_id:98"));
  EXPECT_EQ(a["choices"][0]["prompt_logprobs"][1].size(), 3u);
  a = chat(R"({"messages":[{"role":"user","content":"h"}],"max_tokens":1,"logprobs":true,"top_logprobs":1,
               "return_tokens_as_token_ids":true})");
  const Json& token = a["choices"][0]["logprobs"]["content"][0];
  EXPECT_EQ(token["token"], "token_id:104");
  EXPECT_EQ(token["bytes"], Json::array({104}));
  EXPECT_EQ(token["top_logprobs"][0]["token"], "token_id:104");
}

TEST_F(ServingTest, TextOffsetsPointIntoTheText) {
  // Characters of several bytes, cut ones, control tokens shown and hidden, a prefix: each offset is where the token's
  // bytes stand in the text, and rises.
  const auto offsets = [&](std::string_view body) {
    const Json whole = completion(body);
    const Json& choice = whole["choices"][0];
    // Streamed it is the same.
    Json streamed = Json::array();
    std::string text;
    for (const Json& chunk : chunks(cat(body.substr(0, body.size() - 1), ",\"stream\":true}"), false)) {
      for (const Json& at : chunk["choices"][0]["logprobs"]["text_offset"]) streamed.push_back(at);
      text += chunk["choices"][0]["text"].get<std::string>();
    }
    EXPECT_EQ(streamed, choice["logprobs"]["text_offset"]) << body;
    EXPECT_EQ(text, choice["text"]) << body;
    return choice["logprobs"]["text_offset"];
  };
  EXPECT_EQ(offsets(R"({"prompt":"a€b","max_tokens":5,"logprobs":0,"echo":true})"),
            Json::array({0, 1, 1, 1, 2, 3, 4, 4, 4, 5}));
  EXPECT_EQ(offsets(R"({"prompt":[97,226,130,98],"max_tokens":6,"logprobs":0})"), Json::array({0, 1, 1, 2, 3, 4}));
  EXPECT_EQ(offsets(R"({"prompt":"a<|end|>b","max_tokens":4,"logprobs":0,"echo":true,"ignore_eos":true})"),
            Json::array({0, 1, 8, 9, 10, 10, 11}));
  EXPECT_EQ(offsets(R"({"prompt":[97,256,98],"max_tokens":4,"logprobs":0,"echo":true,"ignore_eos":true})"),
            Json::array({0, 1, 1, 2, 3, 3, 4}));
  EXPECT_EQ(offsets(R"({"prompt":[97,256,98],"max_tokens":3,"logprobs":0,"echo":true,"ignore_eos":true,
                        "skip_special_tokens":false})"),
            Json::array({0, 1, 8, 9, 10, 17}));
  // The text ends before the stop string: tokens of it stand at its end.
  EXPECT_EQ(
      completion(
          R"({"prompt":"abcdef","max_tokens":9,"logprobs":0,"stop":"cde"})")["choices"][0]["logprobs"]["text_offset"],
      Json::array({0, 1, 2, 2, 2}));
}

TEST_F(ServingTest, BestOfGivesTheMostLikely) {
  // The test engine says its prompt, whose tokens are the less likely the greater they are: so all choices are alike,
  // and what counts is how many there are and how they are numbered.
  const Json a = completion(R"({"prompt":["ab","cd"],"n":2,"best_of":3,"max_tokens":2})");
  ASSERT_EQ(a["choices"].size(), 4u);
  const char* texts[] = {"ab", "ab", "cd", "cd"};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(a["choices"][i]["index"], i);
    EXPECT_EQ(a["choices"][i]["text"], texts[i]);
    EXPECT_TRUE(a["choices"][i]["logprobs"].is_null());
  }
  EXPECT_EQ(engine_->submitted().size(), 6u);
  EXPECT_EQ(engine_->submitted()[0].logprobs, 0) << "what is compared";
  EXPECT_EQ(a["usage"]["completion_tokens"], 12);
}

TEST_F(ServingTest, APromptIsTruncatedFromItsBeginning) {
  Json a = completion(R"({"prompt":"abcdef","max_tokens":2,"truncate_prompt_tokens":2,"echo":true})");
  EXPECT_EQ(a["choices"][0]["text"], "efef");
  EXPECT_EQ(a["usage"]["prompt_tokens"], 2);
  const std::string long_text(1000, 'a');
  a = completion(cat(R"({"prompt":")", long_text, R"(","max_tokens":20,"truncate_prompt_tokens":-1})"));
  EXPECT_EQ(a["usage"]["prompt_tokens"], 180);
  EXPECT_EQ(refused(cat(R"({"prompt":")", long_text, R"(","truncate_prompt_tokens":201})"), false).code,
            "context_length_exceeded");
  a = chat(R"({"messages":[{"role":"user","content":"abcdef"}],"max_tokens":3,"truncate_prompt_tokens":3})");
  EXPECT_EQ(a["choices"][0]["message"]["content"], "def");
}

TEST_F(ServingTest, MaxTokensWithoutANumberIsCutToTheContext) {
  const std::string prompt(195, 'a');
  EXPECT_EQ(completion(cat(R"({"prompt":")", prompt, "\"}"))["usage"]["completion_tokens"], 5);
  EXPECT_EQ(refused(cat(R"({"max_tokens":6,"prompt":")", prompt, "\"}"), false).param, "max_tokens");
  EXPECT_EQ(chat(cat(R"({"messages":[{"role":"user","content":")", prompt, R"("}]})"))["usage"]["completion_tokens"],
            5);
}

TEST_F(ServingTest, RenderedPrompts) {
  const auto json = [](const Serving::OrError<std::string>& made) {
    const auto* error = std::get_if<ApiError>(&made);
    return parse_json(error ? error->body() : std::get<0>(made), {.root_must_be_object = false}).value();
  };
  Json r = json(serving_->render_completions(R"({"prompt":["a<|end|>",[98]]})"));
  ASSERT_EQ(r.size(), 2u);
  EXPECT_EQ(r[0]["token_ids"], Json::array({97, kTestEnd}));
  EXPECT_EQ(r[0]["prompt"], "a<|end|>");
  EXPECT_EQ(r[0]["count"], 2);
  EXPECT_EQ(r[1]["token_ids"], Json::array({98}));
  r = json(serving_->render_chat(R"({"messages":[{"role":"user","content":"ab"}],"max_tokens":5})"));
  EXPECT_EQ(r["token_ids"], Json::array({97, 98}));
  EXPECT_TRUE(json(serving_->render_chat("{}")).contains("error"));
  EXPECT_TRUE(json(serving_->render_completions(R"({"prompt":"a","model":"x"})")).contains("error"));
  EXPECT_EQ(engine_->submitted().size(), 0u);
}

TEST_F(ServingTest, WhatATemplateIsTold) {
  const auto prompt = [&](std::string_view body) {
    const auto made = serving_->render_chat(body);
    const auto* error = std::get_if<ApiError>(&made);
    return error ? error->message : parse_json(std::get<0>(made)).value()["prompt"].get<std::string>();
  };
  chat_template_ = ChatTemplate::parse(
                       "{% for d in documents or [] %}<{{ d.title }}>{% endfor %}"
                       "{% if thinking is defined %}[{{ thinking }}]{% endif %}"
                       "{% for m in messages %}{{ m.role }}: {{ m.content | trim }}<|end|>{% endfor %}"
                       "{% if add_generation_prompt %}assistant: {% endif %}")
                       .value();
  const std::string_view user = R"("messages":[{"role":"user","content":"hi"}])";
  EXPECT_EQ(prompt(cat("{", user, "}")), "user: hi<|end|>assistant: ");
  EXPECT_EQ(prompt(cat(R"({"documents":[{"title":"x"},{"title":"y"}],"chat_template_kwargs":{"thinking":"off"},)", user,
                       "}")),
            "<x><y>[off]user: hi<|end|>assistant: ");
  const auto continued = [&](std::string_view last) {
    return prompt(cat(R"({"continue_final_message":true,"messages":[{"role":"user","content":"A b"},
                          {"role":"assistant","content":")",
                      last, "\"}]}"));
  };
  EXPECT_EQ(continued("A b"), "user: A b<|end|>assistant: A b");
  EXPECT_EQ(continued("  so "), "user: A b<|end|>assistant: so") << "the template trims";
  EXPECT_EQ(continued("<|end|>"), "user: A b<|end|>assistant: <|end|>");
  chat_template_ = ChatTemplate::parse("{{ tools is none }} {{ documents is none }} {{ eos_token }}").value();
  EXPECT_EQ(prompt(cat("{", user, "}")), "True True <|end|>");
  chat_template_ = ChatTemplate::parse("{% for m in messages %}{{ m.content | upper }};{% endfor %}").value();
  EXPECT_NE(continued("abc").find("continue_final_message needs"), std::string::npos);
  chat_template_ = ChatTemplate::parse("{% for m in messages %}{{ m.content }};{% endfor %}").value();
  EXPECT_EQ(continued("so "), "A b;so ");
}

TEST_F(ServingTest, TokenizerInfo) {
  const Json info = parse_json(serving_->tokenizer_info()).value();
  EXPECT_EQ(info["eos_token"], "<|end|>");
  EXPECT_TRUE(info["bos_token"].is_null());
  EXPECT_EQ(info["vocab_size"], kTestVocabulary);
  EXPECT_EQ(info["chat_template"], "{% for message in messages %}{{ message.content }}{% endfor %}");
}

// The engine says the prompt again, so a message that is a call comes back as one.
TEST_F(ServingTest, ToolCallsAndReasoningAreTakenApart) {
  start_with(choose_format("hermes", "think", "").value());
  const std::string answer =
      R"(<think>\nHm.\n</think>\n\nOk.<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>)";
  const auto body = [&](bool stream) {
    return cat(
        R"({"messages":[{"role":"user","content":")", answer, R"("}],"max_tokens":)", 86, R"(,"stream":)", stream,
        R"(,"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"a":{"type":"integer"}}}}}]})");
  };
  const Json message = chat(body(false))["choices"][0]["message"];
  EXPECT_EQ(message["reasoning_content"], "Hm.");
  EXPECT_EQ(message["content"], "Ok.");
  ASSERT_EQ(message["tool_calls"].size(), 1u) << message.dump();
  EXPECT_EQ(message["tool_calls"][0]["function"]["name"], "f");
  EXPECT_EQ(message["tool_calls"][0]["function"]["arguments"], R"({"a": 1})");
  EXPECT_TRUE(std::string(message["tool_calls"][0]["id"]).starts_with("call_"));
  std::string reasoning, content, arguments, name;
  for (const Json& chunk : chunks(body(true), true)) {
    const Json& delta = chunk["choices"][0]["delta"];
    reasoning += delta.value("reasoning_content", "");
    content += delta.value("content", "");
    for (const Json& call : delta.value("tool_calls", Json::array())) {
      EXPECT_EQ(call["index"], 0);
      name += call["function"].value("name", "");
      arguments += call["function"].value("arguments", "");
    }
  }
  EXPECT_EQ(reasoning + "|" + content + "|" + name + "|" + arguments, R"(Hm.|Ok.|f|{"a": 1})");
}

TEST_F(ServingTest, WhatTheModelsFormatDoesNotHaveIsRefused) {
  const std::string tools = R"("tools":[{"type":"function","function":{"name":"f"}}])";
  const auto body = [](const std::string& fields) {
    return R"({"messages":[{"role":"user","content":"x"}],)" + fields + "}";
  };
  EXPECT_EQ(refused(body(tools), true).param, "tools");
  EXPECT_EQ(refused(body(R"("reasoning_effort":"high")"), true).param, "reasoning_effort");
  EXPECT_EQ(
      refused(body(R"("response_format":{"type":"json_schema","json_schema":{"schema":{"not":{}}}})"), true).param,
      "response_format");
  EXPECT_EQ(refused(body(R"("guided_regex":"(a|a)*b")"), true).param, "guided_regex");
}

TEST_F(ServingTest, Models) {
  const Json list = parse_json(serving_->models()).value();
  EXPECT_EQ(list["data"][0]["id"], "test");
  EXPECT_EQ(list["data"][1]["id"], "alias");
  EXPECT_EQ(list["data"][0]["max_model_len"], 200);
  EXPECT_TRUE(serving_->model("alias"));
  EXPECT_FALSE(serving_->model("other"));
}

}  // namespace
}  // namespace hearth
