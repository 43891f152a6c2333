// The table of routes, and answers driven from the engine's events to the connection.
#include "server/routes.h"

#include <malloc.h>

#include <algorithm>
#include <charconv>
#include <new>
#include <random>

#include "api/json_writer.h"
#include "base/log.h"
#include "base/version.h"
#include "ops/batch.h"
#include "server/page.h"
#include "server/request_times.h"

namespace hearth {
namespace {

constexpr size_t kMaxQueuedCalls = 1 << 16;  // a connection has one at a time
constexpr int64_t kTrimBytes = 1 << 20;

// The client's id where it is harmless, else one of ours.
std::string request_id_of(const HttpRequest& request) {
  const std::string_view given = request.header("x-request-id");
  const bool harmless = !given.empty() && given.size() <= 128 && std::all_of(given.begin(), given.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_' ||
           c == '.';
  });
  if (harmless) return std::string(given);
  thread_local std::mt19937_64 random{std::random_device{}()};
  std::string out = "req-";
  for (uint64_t bits = random(), i = 0; i < 16; ++i, bits >>= 4) out += "0123456789abcdef"[bits & 15];
  return out;
}

// "org%2Fname" is "org/name". Nullopt: a % without two digits behind it.
std::optional<std::string> percent_decoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    unsigned byte = 0;
    const char* const digits = text.data() + i + 1;
    if (text.size() - i < 3 || std::from_chars(digits, digits + 2, byte, 16).ptr != digits + 2) return std::nullopt;
    out += static_cast<char>(byte);
    i += 2;
  }
  return out;
}

HttpResponse ok(std::string body, std::string content_type = "application/json") {
  return {200, std::move(body), std::move(content_type), {}};
}

HttpResponse refusal(const ApiError& error) {
  HttpResponse out{error.http_status, error.body(), "application/json", {}};
  if (error.http_status == 429 || error.http_status == 503) {
    out.headers.emplace_back("Retry-After", std::to_string(error.retry_after_seconds));
  }
  if (error.http_status == 401) out.headers.emplace_back("WWW-Authenticate", "Bearer");
  if (!error.retry) out.headers.emplace_back("x-should-retry", "false");
  return out;
}

Status shutting_down() { return Status(Code::kUnavailable, "the server is shutting down"); }

// Takes an answer's bytes to its exchange.
class GenerationDriver final : public AnswerDriver {
 public:
  explicit GenerationDriver(std::shared_ptr<Answer> answer) : answer_(std::move(answer)) {}

  // All there is goes out at once, and what comes later wakes the exchange.
  bool advance(Exchange& exchange) override {
    out_.clear();
    const Answer::State state = answer_->advance(out_);
    if (state == Answer::State::kFailed) {
      exchange.reply(refusal(answer_->error()));
    } else if (answer_->stream()) {
      if (!out_.empty()) write(exchange, state);
    } else if (state == Answer::State::kDone) {
      exchange.reply(ok(std::move(out_)));
    }
    return false;
  }
  void gone() override { answer_->cancel(); }
  std::optional<Counts> counts() const override {
    const Usage usage = answer_->usage_of_all();
    return Counts{usage.prompt_tokens, usage.completion_tokens};
  }

 private:
  void write(Exchange& exchange, Answer::State state) {
    if (!begun_) {
      HttpResponse head = ok({}, "text/event-stream; charset=utf-8");
      head.headers.emplace_back("Cache-Control", "no-cache");
      head.headers.emplace_back("X-Accel-Buffering", "no");
      exchange.begin(std::move(head));
    }
    begun_ = true;
    exchange.write(out_, state == Answer::State::kDone);
  }

  const std::shared_ptr<Answer> answer_;
  std::string out_;
  bool begun_ = false;
};

constexpr std::string_view kModelPrefix = "/v1/models/";
constexpr std::string_view kMessages = "/v1/messages";

// In the words of the API that is asked.
HttpResponse refusal(const HttpRequest& request, ApiError error) {
  error.anthropic = request.path.starts_with(kMessages);
  return refusal(error);
}

}  // namespace

const Routes::Route Routes::kRoutes[] = {
    {"/", "GET", true, false, &Routes::page},
    {"/health", "GET", true, true, &Routes::health},
    {"/ping", "GET", true, true, &Routes::health},
    {"/v2/health/live", "GET", true, false, &Routes::live},
    {"/v2/health/ready", "GET", true, true, &Routes::ready},
    {"/metrics", "GET", true, true, &Routes::metrics},
    {"/version", "GET", false, false, &Routes::version},
    {"/v1/models", "GET", false, true, &Routes::models},
    {kModelPrefix, "GET", false, true, &Routes::one_model},
    {"/v1/chat/completions", "POST", false, true, &Routes::chat},
    {"/v1/completions", "POST", false, true, &Routes::completions},
    {"/v1/responses", "POST", false, true, &Routes::responses},
    {kMessages, "POST", false, true, &Routes::messages},
    {"/v1/messages/count_tokens", "POST", false, true, &Routes::count_tokens},
    {"/v1/chat/completions/render", "POST", false, true, &Routes::render_chat},
    {"/v1/completions/render", "POST", false, true, &Routes::render_completions},
    {"/tokenize", "POST", false, true, &Routes::tokenize},
    {"/detokenize", "POST", false, true, &Routes::detokenize},
    {"/tokenizer_info", "GET", false, true, &Routes::tokenizer_info},
    // SGLang's names, old and new: its router reads them.
    {"/get_server_info", "GET", false, true, &Routes::server_info},
    {"/server_info", "GET", false, true, &Routes::server_info},
    {"/get_model_info", "GET", false, true, &Routes::model_info},
    {"/model_info", "GET", false, true, &Routes::model_info},
};

// The ways in which a client's base URL is wrong: /v1 is in it twice, or not at all, or it ends with a slash too many.
const char* Routes::why_not_found(std::string_view path) {
  const auto known = [](std::string_view p) {
    return std::any_of(std::begin(kRoutes), std::end(kRoutes), [&](const Route& route) { return route.path == p; });
  };
  if (path == "/v1" || path == "/v1/") return "no such path; it is a base URL: there is /v1/models, for one";
  if (path.find("//") != path.npos)
    return "no such path; there are two slashes in a row: does the base URL end with one?";
  if (path.starts_with("/v1/") && known(path.substr(3))) {
    return "no such path; there is one without the /v1 in front";
  }
  if (known(cat("/v1", path))) return "no such path; the API is under /v1: the base URL ends with /v1";
  if (path.ends_with('/') && known(path.substr(0, path.size() - 1)))
    return "no such path; there is one without the last /";
  return "no such path";
}

Routes::Routes(ApiKeys keys, Cors cors, int64_t num_workers)
    : keys_(std::move(keys)), cors_(std::move(cors)), calls_(kMaxQueuedCalls) {
  HEARTH_CHECK(num_workers >= 2);  // one for small calls alone
  for (int64_t i = 0; i < num_workers; ++i) workers_.emplace_back([this, i] { run_calls(i > 0); });
}

Routes::~Routes() {
  calls_.close();
  for (std::thread& worker : workers_) worker.join();
}

void Routes::set_model(const Serving& serving, const Metrics& metrics) {
  metrics_ = &metrics;
  serving_ = &serving;
}

void Routes::use_keys(ApiKeys keys) {
  std::lock_guard lock(keys_mutex_);
  keys_ = std::move(keys);
}

const Routes::Route* Routes::find(std::string_view path) {
  const auto* const found = std::find_if(std::begin(kRoutes), std::end(kRoutes), [&](const Route& route) {
    return route.path == kModelPrefix ? path.starts_with(kModelPrefix) : path == route.path;
  });
  return found == std::end(kRoutes) ? nullptr : found;
}

std::optional<HttpResponse> Routes::admit(HttpRequest& request) {
  const Route* const route = find(request.path);
  HttpLabel& label = request.label;
  label.id = request_id_of(request);
  label.reply_headers.emplace_back("x-request-id", label.id);
  if (route != nullptr) label.route = route->path;
  label.is_probe = route != nullptr && route->open;
  const bool preflight = cors_.add_headers(request);
  if (preflight) return ok({});

  const auto refuse = [&](const ApiError& error) { return refusal(request, error); };
  const bool open = route != nullptr && route->open;
  {
    std::lock_guard lock(keys_mutex_);
    const auto key = keys_.find(request);
    if (!keys_.empty() && !key && !open) return refuse(invalid_api_key());
    if (key) label.client = cat("key ", *key);
  }
  if (route == nullptr) return refuse(http_error(404, why_not_found(request.path)));

  const bool is_get = route->method == "GET";
  if (request.method != route->method && !(is_get && request.method == "HEAD")) {
    HttpResponse response = refuse(http_error(405, "the path does not allow the method"));
    response.headers.emplace_back("Allow", is_get ? "GET, HEAD" : "POST");
    return response;
  }
  if (!is_get) {
    std::string_view type = request.header("content-type");
    type = type.substr(0, type.find(';'));
    while (type.ends_with(' ')) type.remove_suffix(1);
    if (!equal_ignoring_case(type, "application/json")) {
      return refuse(http_error(415, "the content-type must be application/json"));
    }
  }
  if (route->needs_model && serving_ == nullptr) {
    return refuse(to_api_error(Status(Code::kUnavailable, "the model is being loaded")));
  }
  if (!is_get && draining_) return refuse(to_api_error(shutting_down()));
  return std::nullopt;
}

void Routes::handle(HttpRequest&& request, std::shared_ptr<Exchange> exchange) {
  const Route* const route = find(request.path);
  HEARTH_CHECK(route != nullptr);  // it was admitted
  (this->*route->run)({std::move(request), std::move(exchange), serving_});
}

bool Routes::finish_calls(Duration timeout) {
  if (calls_.wait_until_idle(timeout)) return true;
  for (const auto& call : calls_.close()) call->exchange->reply(refusal(to_api_error(shutting_down())));
  return calls_.wait_until_idle(Duration(0));
}

// Ready while one replica serves; how many do is told where there are several.
void Routes::health(Call&& call) {
  const std::vector<Status> each = call.serving->engine().replica_health();
  const auto serving = std::ranges::count_if(each, &Status::ok);
  if (serving == 0) return call.exchange->reply(refusal(to_api_error(Status(Code::kUnavailable, "the device failed"))));
  if (each.size() == 1) return call.exchange->reply(ok("{}"));
  std::string out;
  JsonWriter w(out);
  w.begin_object().field("replicas", std::ssize(each)).field("serving", serving).key("failed").begin_array();
  for (size_t i = 0; i < each.size(); ++i) {
    if (!each[i].ok()) w.value(static_cast<int64_t>(i));
  }
  w.end_array().end_object();
  call.exchange->reply(ok(std::move(out)));
}

void Routes::live(Call&& call) { call.exchange->reply(ok("{}")); }

void Routes::ready(Call&& call) {
  if (!draining_) return health(std::move(call));
  call.exchange->reply(refusal(to_api_error(Status(Code::kUnavailable, "draining"))));
}

void Routes::page(Call&& call) {
  HttpResponse out = ok(std::string(built_in_page()), "text/html; charset=utf-8");
  // The page talks to this server alone, and nobody may put it into a frame.
  out.headers.emplace_back("Content-Security-Policy",
                           "default-src 'none'; connect-src 'self'; img-src data:; style-src 'unsafe-inline'; "
                           "script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
  out.headers.emplace_back("X-Content-Type-Options", "nosniff");
  out.headers.emplace_back("Cache-Control", "no-cache");
  call.exchange->reply(std::move(out));
}

void Routes::version(Call&& call) { call.exchange->reply(ok(cat("{\"version\":\"", hearth::version(), "\"}"))); }

void Routes::metrics(Call&& call) {
  const Engine& engine = call.serving->engine();
  call.exchange->reply(ok(metrics_.load()->render(engine.replica_stats(), engine.replica_health(), kBlockSize),
                          "text/plain; version=0.0.4; charset=utf-8"));
}

void Routes::server_info(Call&& call) { call.exchange->reply(ok(call.serving->options().server_info)); }

void Routes::model_info(Call&& call) { call.exchange->reply(ok(call.serving->options().model_info)); }

void Routes::models(Call&& call) { call.exchange->reply(ok(call.serving->models())); }

void Routes::one_model(Call&& call) {
  const auto name = percent_decoded(std::string_view(call.request.path).substr(kModelPrefix.size()));
  auto found = name ? call.serving->model(*name) : std::nullopt;
  call.exchange->reply(found ? ok(std::move(*found)) : refusal(model_not_found()));
}

void Routes::completions(Call&& call) { generate(std::move(call), &Serving::completions); }
void Routes::chat(Call&& call) { generate(std::move(call), &Serving::chat); }
void Routes::messages(Call&& call) { generate(std::move(call), &Serving::messages); }
void Routes::count_tokens(Call&& call) { make(std::move(call), &Serving::count_tokens); }
void Routes::responses(Call&& call) { generate(std::move(call), &Serving::responses); }
void Routes::render_completions(Call&& call) { make(std::move(call), &Serving::render_completions); }
void Routes::render_chat(Call&& call) { make(std::move(call), &Serving::render_chat); }
void Routes::tokenize(Call&& call) { make(std::move(call), &Serving::tokenize); }
void Routes::tokenizer_info(Call&& call) { call.exchange->reply(ok(call.serving->tokenizer_info())); }

void Routes::detokenize(Call&& call) { make(std::move(call), &Serving::detokenize); }

void Routes::on_worker(Call&& call, std::function<void(Call&)> work) {
  const bool large = std::ssize(call.request.body) > BodyBudget::kSmallRequestBytes;
  call.work = std::move(work);
  auto owned = std::make_unique<Call>(std::move(call));
  if (!calls_.try_push(std::move(owned), large)) {
    const Status full(Code::kResourceExhausted, "too many requests wait to be read");
    owned->exchange->reply(refusal(to_api_error(full)));
  }
}

// Where memory gives out, the call that asked for it gets a 503, once what it held is free.
void Routes::run_call(Call& call) {
  try {
    return call.work(call);
  } catch (const std::bad_alloc&) {
  }
  call.request = {};
  for (int i = 0; i < 100; ++i) {
    try {
      if (i == 0) log_warning("a request ran out of memory");
      const Status status(Code::kUnavailable, "the server is out of memory");
      return call.exchange->reply(refusal(to_api_error(status)));
    } catch (const std::bad_alloc&) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
}

void Routes::run_calls(bool take_large) {
  while (auto call = calls_.pop(take_large)) {
    const bool trim = std::ssize(call->request.body) > kTrimBytes;
    run_call(*call);
    call.reset();
    if (trim) malloc_trim(0);  // what a large one took goes back to the system
    calls_.done();
  }
}

void Routes::generate(Call&& call, Start start) {
  const auto times = read_call_times(call.request, call.serving->now());
  if (!times.ok()) return call.exchange->reply(refusal(call.request, to_api_error(times.status())));
  on_worker(std::move(call), [start, times = *times](Call& c) {
    auto started = (c.serving->*start)(c.request.body, times, [exchange = c.exchange] { exchange->wake(); });
    if (auto* error = std::get_if<ApiError>(&started)) return c.exchange->reply(refusal(c.request, *error));
    c.exchange->drive(std::make_shared<GenerationDriver>(std::get<0>(std::move(started))));
  });
}

void Routes::make(Call&& call, Make make) {
  on_worker(std::move(call), [make](Call& c) {
    auto made = (c.serving->*make)(c.request.body);
    if (auto* error = std::get_if<ApiError>(&made)) return c.exchange->reply(refusal(c.request, *error));
    c.exchange->reply(ok(std::get<0>(std::move(made))));
  });
}

}  // namespace hearth
