// The API over real sockets, against the test engine.
#include "server/routes.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "api/test_engine.h"
#include "server/http_server.h"
#include "server/raw_client.h"

namespace hearth {
namespace {

using std::chrono::milliseconds;

class RoutesTest : public testing::Test {
 protected:
  void start(std::vector<std::string> keys = {}, TestEngine::Options options = {}, bool load = true) {
    engine_.emplace(options);
    serving_.emplace(ServingOptions{{"test", "org/na me"}, {kTestVocabulary, 4000, 5, 8}}, *tokenizer_, &chat_template_,
                     *engine_, clock_, &metrics_);
    routes_.emplace(ApiKeys(std::move(keys)), Cors(origins_), 2);
    server_.emplace(
        HttpLimits{},
        [this](HttpRequest&& request, std::shared_ptr<Exchange> exchange) {
          routes_->handle(std::move(request), std::move(exchange));
        },
        [this](HttpRequest& request) { return routes_->admit(request); });
    ASSERT_TRUE(server_->listen("127.0.0.1", 0).ok());
    thread_ = std::thread([this] { server_->run(); });
    if (load) routes_->set_model(*serving_, metrics_);
  }
  void TearDown() override {
    server_->stop(milliseconds(100));
    thread_.join();
    routes_.reset();
    engine_.reset();
    server_.reset();
  }
  static std::string post(std::string_view path, std::string_view body, std::string_view headers = {}) {
    return cat("POST ", path, " HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: application/json\r\n",
               headers, "Content-Length: ", body.size(), "\r\n\r\n", body);
  }
  static std::string get(std::string_view path, std::string_view headers = {}) {
    return cat("GET ", path, " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n", headers, "\r\n");
  }
  std::string ask(std::string_view request) {
    RawClient client(server_->port());
    client.send(request);
    return client.read_all();
  }
  static std::string status(const std::string& response) { return response.substr(9, 3); }
  static Json body(const std::string& response) {
    return parse_json(std::string_view(response).substr(response.find("\r\n\r\n") + 4)).value();
  }
  static bool wait_for(const std::function<bool()>& condition) {
    for (int i = 0; i < 1000 && !condition(); ++i) std::this_thread::sleep_for(milliseconds(5));
    return condition();
  }

  std::vector<std::string> origins_;
  SteadyClock clock_;
  Metrics metrics_{"test"};
  std::unique_ptr<Tokenizer> tokenizer_ = make_test_tokenizer();
  ChatTemplate chat_template_ = make_test_template();
  std::optional<TestEngine> engine_;
  std::optional<Serving> serving_;
  std::optional<Routes> routes_;
  std::optional<HttpServer> server_;
  std::thread thread_;
};

TEST_F(RoutesTest, WholeAnswers) {
  start();
  std::string got = ask(post("/v1/completions", R"({"prompt":"abc","max_tokens":4})", "x-request-id: my-id.1\r\n"));
  EXPECT_EQ(status(got), "200");
  EXPECT_NE(got.find("x-request-id: my-id.1\r\n"), got.npos);
  EXPECT_EQ(body(got)["choices"][0]["text"], "abca");
  got = ask(post("/v1/chat/completions", R"({"messages":[{"role":"user","content":"hi"}],"max_tokens":2})"));
  EXPECT_EQ(body(got)["choices"][0]["message"]["content"], "hi");
  EXPECT_EQ(body(ask(post("/tokenize", R"({"prompt":"ab"})")))["tokens"], Json::array({97, 98}));
  EXPECT_EQ(body(ask(post("/detokenize", R"({"tokens":[97]})")))["prompt"], "a");
}

TEST_F(RoutesTest, Stream) {
  start();
  const std::string got = ask(
      post("/v1/chat/completions", R"({"messages":[{"role":"user","content":"hi"}],"max_tokens":2,"stream":true})"));
  EXPECT_EQ(status(got), "200");
  for (const char* header : {"Content-Type: text/event-stream", "Cache-Control: no-cache", "X-Accel-Buffering: no",
                             "x-request-id: req-", "Transfer-Encoding: chunked"}) {
    EXPECT_NE(got.find(header), got.npos) << header;
  }
  EXPECT_TRUE(got.ends_with("data: [DONE]\n\n\r\n0\r\n\r\n"));
}

TEST_F(RoutesTest, ManyStreamsAtOnceKeepApart) {
  start({}, {.pause = milliseconds(1)});
  std::vector<RawClient> clients;
  for (int i = 0; i < 50; ++i) {
    clients.emplace_back(server_->port());
    clients.back().send(
        post("/v1/completions", cat(R"({"stream":true,"max_tokens":20,"prompt":")", char('A' + i % 26), "\"}")));
  }
  for (int i = 0; i < 50; ++i) {
    const std::string got = clients[static_cast<size_t>(i)].read_all();
    int64_t letters = 0;
    for (size_t at = got.find("\"text\":\""); at != got.npos; at = got.find("\"text\":\"", at + 1)) {
      for (size_t c = at + 8; got[c] != '"'; ++c, ++letters) EXPECT_EQ(got[c], 'A' + i % 26);
    }
    EXPECT_EQ(letters, 20);
  }
}

TEST_F(RoutesTest, SmallPages) {
  start();
  for (const char* path : {"/health", "/ping", "/v2/health/live", "/v2/health/ready", "/version", "/v1/models",
                           "/v1/models/test", "/tokenizer_info"}) {
    const std::string got = ask(get(path));
    EXPECT_EQ(status(got), "200") << path;
    EXPECT_TRUE(body(got).is_object());
  }
  EXPECT_EQ(body(ask(get("/v1/models/test")))["id"], "test");
  for (const char* path : {"/v1/models/org%2Fna%20me", "/v1/models/org%2fna%20me", "/v1/models/org/na%20me"}) {
    EXPECT_EQ(body(ask(get(path)))["id"], "org/na me") << path;
  }
  for (const char* path : {"/v1/models/else", "/v1/models/", "/v1/models/test%", "/v1/models/test%2",
                           "/v1/models/test%zz", "/v1/models/test%00", "/v1/models/%+1test", "/v1/models/%-1"}) {
    EXPECT_EQ(status(ask(get(path))), "404") << path;
  }
  EXPECT_EQ(status(ask("HEAD /health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")), "200");
}

TEST_F(RoutesTest, WhileLoadingOnlyTheLivenessProbeAndVersionAnswer) {
  start({}, {}, false);
  for (const char* path : {"/health", "/v2/health/ready", "/v1/models", "/metrics"}) {
    EXPECT_EQ(status(ask(get(path))), "503") << path;
  }
  EXPECT_EQ(status(ask(post("/v1/completions", R"({"prompt":"a"})"))), "503");
  EXPECT_EQ(status(ask(get("/v2/health/live"))), "200");
  EXPECT_EQ(status(ask(get("/version"))), "200");
  routes_->set_model(*serving_, metrics_);
  EXPECT_EQ(status(ask(get("/health"))), "200");
}

TEST_F(RoutesTest, DrainingIsNotReadyButLive) {
  start();
  routes_->set_draining();
  EXPECT_EQ(status(ask(get("/v2/health/ready"))), "503");
  EXPECT_EQ(status(ask(get("/v2/health/live"))), "200");
  EXPECT_EQ(status(ask(get("/health"))), "200");
}

TEST_F(RoutesTest, PathsMethodsAndTypes) {
  start();
  for (const auto& [path, words] : {std::pair("/nowhere", "no such path"),
                                    {"/v1/nowhere", "no such path"},
                                    {"/v1/v1/chat/completions", "without the /v1 in front"},
                                    {"/v1/v1/models", "without the /v1 in front"},
                                    {"/v1/tokenize", "without the /v1 in front"},
                                    {"/v1", "it is a base URL"},
                                    {"/v1/", "it is a base URL"},
                                    {"/v1//models", "two slashes in a row"},
                                    {"//v1/models", "two slashes in a row"},
                                    {"/v1/completions/", "without the last /"},
                                    {"/chat/completions", "the base URL ends with /v1"},
                                    {"/models", "the base URL ends with /v1"}}) {
    const std::string got = ask(get(path));
    EXPECT_EQ(status(got), "404") << path;
    EXPECT_NE(body(got)["error"]["message"].get<std::string>().find(words), std::string::npos) << path;
  }
  std::string got = ask(get("/v1/completions"));
  EXPECT_EQ(status(got), "405");
  EXPECT_NE(got.find("Allow: POST\r\n"), got.npos);
  got = ask(post("/health", "{}"));
  EXPECT_EQ(status(got), "405");
  EXPECT_NE(got.find("Allow: GET, HEAD\r\n"), got.npos);
  EXPECT_EQ(status(ask("POST /v1/completions HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: text/plain\r\n"
                       "Content-Length: 2\r\n\r\n{}")),
            "415");
  EXPECT_EQ(status(ask("POST /v1/completions HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")),
            "415");
  EXPECT_EQ(status(ask("POST /v1/completions HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: "
                       "application/json; charset=utf-8\r\n"
                       "Content-Length: 14\r\n\r\n{\"prompt\":\"a\"}")),
            "200");
}

TEST_F(RoutesTest, BadBodies) {
  start();
  const std::string deep(100'000, '[');
  const std::string bodies[] = {"",
                                "{",
                                "[]",
                                "null",
                                "3",
                                "\"a\"",
                                "{\"prompt\":\"a\"",
                                "{\"prompt\":\"a\",}",
                                "{\"prompt\":\"a\"}x",
                                "{\"prompt\":\"a\",\"prompt\":\"b\"}",
                                "{\"prompt\":" + deep,
                                "{\"prompt\":\"a\",\"temperature\":NaN}",
                                "{\"prompt\":\"a\",\"temperature\":1e999}",
                                "{\"prompt\":\"\\ud800\"}",
                                "{\"prompt\":\"\xff\"}",
                                "\xEF\xBB\xBF{\"prompt\":\"a\"}",
                                std::string("{\"prompt\":\"a\0\"}", 15),
                                "{\"prompt\":\"a\",\"n\":0}"};
  for (const std::string& bad : bodies) {
    const std::string got = ask(post("/v1/completions", bad));
    EXPECT_EQ(status(got), "400") << bad.substr(0, 50);
    EXPECT_TRUE(body(got)["error"]["message"].is_string());
    EXPECT_EQ(body(got)["error"]["type"], "invalid_request_error");
    EXPECT_NE(got.find("x-should-retry: false"), got.npos);
  }
  EXPECT_EQ(body(ask(post("/v1/completions", R"({"prompt":"a","n":0})")))["error"]["param"], "n");
}

TEST_F(RoutesTest, AFullQueueIs429WithRetryAfter) {
  start();
  engine_->waiting = 10;
  const std::string got = ask(post("/v1/completions", R"({"prompt":"a"})"));
  EXPECT_EQ(status(got), "429");
  EXPECT_NE(got.find("Retry-After: 1\r\n"), got.npos);
  EXPECT_EQ(got.find("x-should-retry"), got.npos);
}

TEST_F(RoutesTest, HeadersSetADeadlineAndTargets) {
  start();
  const auto ask_with = [&](std::string_view headers) {
    return ask(post("/v1/completions", R"({"prompt":"abc","max_tokens":2})", headers));
  };
  EXPECT_EQ(
      status(ask_with("x-request-timeout-ms: 60000\r\nx-llm-d-slo-ttft-ms: 250\r\nX-LLM-D-SLO-TPOT-MS: 12.5\r\n")),
      "200");
  const std::vector<CallTimes> times = engine_->times();
  ASSERT_EQ(times.size(), 1u);
  EXPECT_EQ(times[0].deadline, times[0].arrival + std::chrono::minutes(1));
  EXPECT_DOUBLE_EQ(times[0].targets.ttft, 0.25);
  EXPECT_DOUBLE_EQ(times[0].targets.tpot, 0.0125);
  EXPECT_EQ(times[0].targets.latency, 0);
  for (const char* wrong : {"0", "-5", "abc", "1e300", "nan", "inf", "0x10", "86400001"}) {
    for (const char* name : {"x-request-timeout-ms", "x-llm-d-slo-ttft-ms", "x-llm-d-slo-tpot-ms"}) {
      const std::string got = ask_with(cat(name, ": ", wrong, "\r\n"));
      EXPECT_EQ(status(got), "400") << name << wrong;
      EXPECT_EQ(body(got)["error"]["param"], name);
    }
  }
}

TEST_F(RoutesTest, AnAnswerPastItsDeadlineIs408) {
  start({}, {.refusal = Status(Code::kTimedOut, "the time that the request gave itself is up")});
  const std::string got = ask(post("/v1/completions", R"({"prompt":"abc","max_tokens":2})"));
  EXPECT_EQ(status(got), "408");
  EXPECT_EQ(body(got)["error"]["code"], "deadline_exceeded");
  EXPECT_NE(got.find("x-should-retry: false"), got.npos);
}

TEST_F(RoutesTest, WhatWouldMissALatencyTargetIs429AndToldWhenToComeBack) {
  start({}, {.refusal = Status(Code::kDeadlineExceeded, "too busy").with_retry_after(7)});
  for (const char* more : {"", ",\"stream\":true"}) {
    const std::string got = ask(post("/v1/completions", cat(R"({"prompt":"a")", more, "}")));
    EXPECT_EQ(status(got), "429");
    EXPECT_NE(got.find("Retry-After: 7\r\n"), got.npos);
    EXPECT_EQ(body(got)["error"]["code"], "deadline_exceeded");
    EXPECT_EQ(body(got)["error"]["message"], "too busy");
    EXPECT_EQ(got.find("x-should-retry"), got.npos);
  }
}

TEST_F(RoutesTest, EngineErrors) {
  start({}, {.fail_after = 0});
  EXPECT_EQ(status(ask(post("/v1/completions", R"({"prompt":"a","stream":true})"))), "500");
  EXPECT_EQ(status(ask(post("/v1/completions", R"({"prompt":"a"})"))), "500");
}

TEST_F(RoutesTest, ACallThatMemoryGivesOutForIs503AndCostsNobodyElse) {
  start({}, {.out_of_memory = true});
  const std::string got = ask(post("/v1/completions", R"({"prompt":"a","n":3,"max_tokens":3000})"));
  EXPECT_EQ(status(got), "503");
  EXPECT_NE(got.find("Retry-After: 1\r\n"), got.npos);
  EXPECT_TRUE(wait_for([&] { return engine_->cancelled() == engine_->submitted_ids(); }));
  EXPECT_EQ(body(ask(post("/tokenize", R"({"prompt":"ab"})")))["tokens"], Json::array({97, 98}));
}

TEST_F(RoutesTest, Keys) {
  start({"secret", "other"});
  for (const char* header : {"", "Authorization: Bearer wrong\r\n", "Authorization: Bearer secre\r\n",
                             "api-key: secret1\r\n", "Authorization: Bearer \r\n", "Authorization: Basic secret\r\n"}) {
    EXPECT_EQ(status(ask(get("/v1/models", header))), "401") << header;
    EXPECT_EQ(status(ask(get("/nowhere", header))), "401") << header;
    EXPECT_EQ(status(ask(get("/health", header))), "200") << header;
    EXPECT_EQ(status(ask(get("/metrics", header))), "200") << header;
  }
  for (const char* header : {"Authorization: Bearer secret\r\n", "Authorization: Bearer other\r\n",
                             "api-key: secret\r\n", "x-api-key: other\r\n"}) {
    EXPECT_EQ(status(ask(get("/v1/models", header))), "200") << header;
  }
}

// A body is not waited for where the head is reason enough.
TEST_F(RoutesTest, HeadsAreRefusedBeforeTheirBodies) {
  start({"secret"});
  const auto head = [](std::string_view path, std::string_view headers) {
    return cat("POST ", path, " HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n", headers, "\r\n");
  };
  EXPECT_EQ(status(ask(head("/v1/completions", "Content-Type: application/json\r\n"))), "401");
  EXPECT_EQ(status(ask(head("/nowhere", "Authorization: Bearer secret\r\n"))), "404");
  EXPECT_EQ(status(ask(head("/v1/models", "Authorization: Bearer secret\r\n"))), "405");
  const std::string got = ask(head("/v1/completions", "Authorization: Bearer secret\r\nx-request-id: mine\r\n"));
  EXPECT_EQ(status(got), "415");
  EXPECT_NE(got.find("\r\nx-request-id: mine\r\n"), got.npos);
  // Without a body on its way the connection goes on.
  RawClient client(server_->port());
  client.send("GET /v1/models HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_EQ(status(client.read_until("invalid_api_key")), "401");
  client.send("GET /health HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_NE(client.read_until("{}").find("HTTP/1.1 200"), std::string::npos);
}

TEST_F(RoutesTest, WordsOfHttpAreReadInAnyCase) {
  start({"secret"});
  for (const char* scheme : {"bearer", "BEARER", "Bearer"}) {
    EXPECT_EQ(status(ask(get("/v1/models", cat("authorization: ", scheme, " secret\r\n")))), "200");
    EXPECT_EQ(status(ask(get("/v1/models", cat("authorization: ", scheme, " SECRET\r\n")))), "401");
  }
  EXPECT_EQ(
      status(ask("POST /tokenize HTTP/1.1\r\nHost: h\r\nConnection: close\r\nx-api-key: secret\r\n"
                 "Content-Type: APPLICATION/JSON; charset=UTF-8\r\nContent-Length: 14\r\n\r\n{\"prompt\":\"a\"}")),
      "200");
}

TEST_F(RoutesTest, PagesOfNamedOriginsMayAsk) {
  origins_ = {"https://a.org", "https://b.org"};
  start({"secret"});
  const std::string preflight =
      "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
      "Access-Control-Request-Method: POST\r\n"
      "Access-Control-Request-Headers: authorization,x-stainless-lang\r\nOrigin: ";
  std::string got = ask(preflight + "https://b.org\r\n\r\n");
  EXPECT_EQ(status(got), "200");
  for (const char* header :
       {"Access-Control-Allow-Origin: https://b.org\r\n", "Access-Control-Allow-Methods: GET, HEAD, POST\r\n",
        "Access-Control-Allow-Headers: authorization,x-stainless-lang\r\n", "Vary: Origin\r\n"}) {
    EXPECT_NE(got.find(header), got.npos) << header;
  }
  got = ask(preflight + "https://c.org\r\n\r\n");
  EXPECT_EQ(status(got), "401");
  EXPECT_EQ(got.find("Access-Control"), got.npos);
  for (const char* key : {"secret", "wrong"}) {  // a page must be able to read an error too
    got = ask(get("/v1/models", cat("Origin: https://a.org\r\nAuthorization: Bearer ", key, "\r\n")));
    EXPECT_NE(got.find("Access-Control-Allow-Origin: https://a.org\r\n"), got.npos);
    EXPECT_NE(got.find("Access-Control-Expose-Headers: "), got.npos);
  }
}

TEST_F(RoutesTest, AllOriginsOrNone) {
  origins_ = {"*"};
  start();
  EXPECT_NE(ask(get("/v1/models", "Origin: null\r\n")).find("Access-Control-Allow-Origin: *\r\n"), std::string::npos);
  EXPECT_EQ(ask(get("/v1/models")).find("Access-Control"), std::string::npos);
}

TEST_F(RoutesTest, WithoutNamedOriginsNoPageMayAsk) {
  start();
  EXPECT_EQ(ask(get("/v1/models", "Origin: https://a.org\r\n")).find("Access-Control"), std::string::npos);
  EXPECT_EQ(status(ask("OPTIONS /v1/models HTTP/1.1\r\nHost: h\r\nConnection: close\r\nOrigin: https://a.org\r\n"
                       "Access-Control-Request-Method: GET\r\n\r\n")),
            "405");
}

TEST_F(RoutesTest, AnswersAreBoundedBeforeTheyAreMade) {
  start();
  std::string ids = "[257";
  for (int i = 0; i < 5'000'000; ++i) ids += ",257";  // " the", four bytes each
  const std::string got = ask(post("/detokenize", cat("{\"tokens\":", ids, "]}")));
  EXPECT_EQ(status(got), "400");
  EXPECT_EQ(body(got)["error"]["param"], "tokens");
}

TEST_F(RoutesTest, WithoutKeysAnyHeaderPasses) {
  start();
  EXPECT_EQ(status(ask(get("/v1/models", "Authorization: Bearer \r\n"))), "200");
}

TEST_F(RoutesTest, ADisconnectCancels) {
  start({}, {.pause = milliseconds(2)});
  for (const bool stream : {true, false}) {
    {
      RawClient client(server_->port());
      client.send(post("/v1/completions", cat(R"({"prompt":"abc","max_tokens":3000,"stream":)", stream, "}")));
      if (stream) client.read_until("data: ");
      ASSERT_TRUE(wait_for([&] { return engine_->submitted().size() == (stream ? 1u : 2u); }));
    }
    EXPECT_TRUE(wait_for([&] { return engine_->cancelled() == engine_->submitted_ids(); }));
  }
}

TEST_F(RoutesTest, MetricsHaveBothNames) {
  start();
  ask(post("/v1/completions", R"({"prompt":"abc","max_tokens":4})"));
  const std::string got = ask(get("/metrics"));
  for (const char* line :
       {"hearth:kv_cache_usage_perc{model_name=\"test\",engine=\"0\"} 0.25\n",
        "vllm:kv_cache_usage_perc{model_name=\"test\",engine=\"0\"} 0.25\n",
        "vllm:request_success_total{model_name=\"test\",engine=\"0\",finished_reason=\"length\"} 1\n",
        "# TYPE vllm:time_to_first_token_seconds histogram\n",
        "vllm:time_to_first_token_seconds_count{model_name=\"test\",engine=\"0\"} 1\n",
        "vllm:inter_token_latency_seconds_bucket{model_name=\"test\",engine=\"0\",le=\"+Inf\"} 3\n",
        "vllm:request_queue_time_seconds_bucket{model_name=\"test\",engine=\"0\",le=\"0.001\"} 1\n",
        "vllm:request_queue_time_seconds_sum{model_name=\"test\",engine=\"0\"} 0\n",
        "vllm:request_prefill_time_seconds_count{model_name=\"test\",engine=\"0\"} 1\n",
        "vllm:request_decode_time_seconds_count{model_name=\"test\",engine=\"0\"} 1\n",
        "vllm:request_inference_time_seconds_count{model_name=\"test\",engine=\"0\"} 1\n",
        "vllm:iteration_tokens_total_bucket{model_name=\"test\",engine=\"0\",le=\"8\"} 5\n",
        "hearth:latency_refusals_total{model_name=\"test\",engine=\"0\"} 3\n",
        "vllm:iteration_tokens_total_bucket{model_name=\"test\",engine=\"0\",le=\"4\"} 3\n",
        "vllm:iteration_tokens_total_bucket{model_name=\"test\",engine=\"0\",le=\"1048576\"} 5\n",
        "hearth:step_time_error_percent_bucket{model_name=\"test\",engine=\"0\",le=\"2\"} 7\n",
        "hearth:gpu_busy_seconds_total{model_name=\"test\",engine=\"0\"} 12.5\n",
        "hearth:gpu_idle_seconds_total{model_name=\"test\",engine=\"0\"} 0.125\n",
        "hearth:cache_config_info{model_name=\"test\",engine=\"0\",block_size=\"64\",num_gpu_blocks=\"100\"} 1\n"}) {
    EXPECT_NE(got.find(line), got.npos) << line;
  }
  for (const char* name :
       {"latency_refusals_total", "step_time_error_percent", "gpu_busy_seconds_total", "gpu_idle_seconds_total"}) {
    EXPECT_NE(got.find(cat("hearth:", name)), got.npos) << name;
    EXPECT_EQ(got.find(cat("vllm:", name)), got.npos) << name << " is not vLLM's";
  }
}

TEST(Metrics, ReplicasHaveALabelEachAndASum) {
  Metrics metrics("m", 2);
  metrics.first_token(1, std::chrono::milliseconds(30));
  metrics.finished({.replica = 1, .reason = "stop", .prompt_tokens = 3, .completion_tokens = 1});
  const std::vector<EngineStats> stats = {{.running = 3, .blocks_total = 100, .blocks_used = 10},
                                          {.running = 4, .blocks_total = 300, .blocks_used = 90}};
  const std::string got = metrics.render(stats, {{}, internal_error("gone")}, 64);
  for (const char* line :
       {"hearth:num_requests_running{model_name=\"m\",engine=\"0\"} 3\n",
        "vllm:num_requests_running{model_name=\"m\",engine=\"1\"} 4\n",
        "hearth:server_num_requests_running{model_name=\"m\"} 7\n",
        "hearth:kv_cache_usage_perc{model_name=\"m\",engine=\"1\"} 0.3\n",
        "hearth:server_kv_cache_usage_perc{model_name=\"m\"} 0.25\n",
        "hearth:replica_up{model_name=\"m\",engine=\"0\"} 1\n", "hearth:replica_up{model_name=\"m\",engine=\"1\"} 0\n",
        "vllm:time_to_first_token_seconds_count{model_name=\"m\",engine=\"0\"} 0\n",
        "vllm:time_to_first_token_seconds_count{model_name=\"m\",engine=\"1\"} 1\n",
        "vllm:request_success_total{model_name=\"m\",engine=\"1\",finished_reason=\"stop\"} 1\n"}) {
    EXPECT_NE(got.find(line), got.npos) << line;
  }
  // A family's head comes once, before all of its samples.
  size_t heads = 0;
  for (size_t at = got.find("# TYPE vllm:num_requests_running "); at != got.npos;
       at = got.find("# TYPE vllm:num_requests_running ", at + 1))
    ++heads;
  EXPECT_EQ(heads, 1u);
}

}  // namespace
}  // namespace hearth
