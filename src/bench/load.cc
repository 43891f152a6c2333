// One coroutine a request on one thread: a client of 50 requests a second is far from busy, and one thread keeps its
// clock honest.
#include "bench/load.h"

#include <algorithm>
#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>

#include "base/json.h"
#include "bench/connection.h"

namespace hearth {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using SteadyTime = std::chrono::steady_clock::time_point;
using asio::use_awaitable;

constexpr size_t kMaxReasonBytes = 16 << 10;

double since(SteadyTime start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}
std::chrono::nanoseconds nanoseconds(double s) { return std::chrono::nanoseconds(static_cast<int64_t>(s * 1e9)); }

std::string completion_body(const Endpoint& endpoint, const Prompt& prompt) {
  Json body = {{"model", endpoint.model},
               {"max_tokens", prompt.output_tokens},
               {"min_tokens", prompt.output_tokens},
               {"ignore_eos", true},
               {"temperature", 0},
               {"stream", true},
               {"stream_options", {{"include_usage", true}}}};
  if (prompt.ids.empty()) {
    body["prompt"] = prompt.text;
  } else {
    body["prompt"] = prompt.ids;
  }
  return body.dump();
}

// What the server says of an error, fit for one line of a terminal; empty: nothing that is understood.
std::string reason_in(const Json& body) {
  const auto error = body.find("error");
  const Json* message = nullptr;
  if (error != body.end() && error->is_object() && error->contains("message")) message = &(*error)["message"];
  if (error != body.end() && error->is_string()) message = &*error;
  if (message == nullptr && body.contains("message")) message = &body["message"];  // older vLLMs
  if (message == nullptr || !message->is_string()) return {};
  std::string out = message->get<std::string>().substr(0, 300);
  std::ranges::replace_if(
      out, [](unsigned char c) { return c < 0x20 || c == 0x7f; }, ' ');
  return out;
}

// Takes server-sent events apart, across reads.
class EventReader {
 public:
  EventReader(RequestRecord& record, SteadyTime start) : record_(record), start_(start) {}

  void feed(std::string_view bytes) {
    buffer_.append(bytes);
    size_t begin = 0, end;
    while ((end = buffer_.find('\n', begin)) != buffer_.npos) {
      line(std::string_view(buffer_).substr(begin, end - begin));
      begin = end + 1;
    }
    buffer_.erase(0, begin);
  }

 private:
  void line(std::string_view text) {
    if (!text.starts_with("data: {")) return;
    const double now = since(start_);
    auto event = parse_json(text.substr(6));
    if (!event.ok()) {
      record_.error = "an event is not JSON";
      return;
    }
    if (event->contains("error")) {
      const std::string reason = reason_in(*event);
      record_.error = reason.empty() ? "the stream ended in an error" : reason;
    }
    if (auto choices = event->find("choices"); choices != event->end() && choices->is_array() && !choices->empty()) {
      if (record_.first == 0) {
        record_.first = now;
      } else {
        record_.inter_token.push_back(now - record_.last);
      }
      record_.last = now;
    }
    if (auto usage = event->find("usage"); usage != event->end() && usage->is_object()) {
      record_.prompt_tokens = usage->value("prompt_tokens", int64_t{0});
      record_.output_tokens = usage->value("completion_tokens", int64_t{0});
    }
  }

  RequestRecord& record_;
  SteadyTime start_;
  std::string buffer_;
};

struct Run {
  const Endpoint& endpoint;
  const LoadOptions& options;
  const std::function<Prompt(int64_t)>& make_prompt;
  tcp::resolver::results_type addresses;
  SteadyTime start;
  std::vector<std::unique_ptr<RequestRecord>> records;
  int64_t started = 0, done = 0;
};

asio::awaitable<void> stream_completion(auto& stream, Run& run, const Prompt& prompt, RequestRecord& record) {
  const auto request =
      make_request(run.endpoint, http::verb::post, "/v1/completions", completion_body(run.endpoint, prompt));
  co_await http::async_write(stream, request, use_awaitable);

  beast::flat_buffer buffer;
  http::response_parser<http::buffer_body> response;
  response.body_limit(boost::none);
  co_await http::async_read_header(stream, buffer, response, use_awaitable);
  if (const unsigned status = response.get().result_int(); status != 200) {
    std::string body(kMaxReasonBytes, 0);
    response.get().body().data = body.data();
    response.get().body().size = body.size();
    while (!response.is_done() && response.get().body().size > 0) {
      auto [error, unused] = co_await http::async_read_some(stream, buffer, response, asio::as_tuple(use_awaitable));
      if (error && error != http::error::need_buffer) break;
    }
    body.resize(body.size() - response.get().body().size);
    const auto parsed = parse_json(body);
    const std::string reason = parsed.ok() ? reason_in(*parsed) : std::string();
    record.error = cat("status ", status, reason.empty() ? "" : ": ", reason);
    co_return;
  }
  EventReader events(record, run.start);
  std::vector<char> chunk(16 << 10);
  while (!response.is_done()) {
    response.get().body().data = chunk.data();
    response.get().body().size = chunk.size();
    auto [error, unused] = co_await http::async_read_some(stream, buffer, response, asio::as_tuple(use_awaitable));
    check_read(response, error);
    events.feed({chunk.data(), chunk.size() - response.get().body().size});
  }
  if (record.error.empty() && record.output_tokens != prompt.output_tokens) {
    record.error = cat(record.output_tokens, " tokens of ", prompt.output_tokens);
  }
}

asio::awaitable<void> one_request(Run& run, int64_t index, RequestRecord& record) {
  const Prompt prompt = run.make_prompt(index);
  try {
    const auto use = [&](auto& stream) { return stream_completion(stream, run, prompt, record); };
    co_await with_connection(run.endpoint, run.addresses, nanoseconds(run.options.request_timeout), use);
  } catch (const std::exception& e) {  // a lost request is a result
    record.error = words_of(e);
  }
  ++run.done;
}

RequestRecord& add_record(Run& run, double due) {
  run.records.push_back(std::make_unique<RequestRecord>());
  run.records.back()->due = due;
  ++run.started;
  return *run.records.back();
}

asio::awaitable<void> open_loop(Run& run) {
  auto executor = co_await asio::this_coro::executor;
  asio::steady_timer timer(executor);
  std::mt19937_64 random(run.options.seed);
  std::exponential_distribution<double> gap(run.options.rate);
  const double end = run.options.warm_up + run.options.seconds;
  for (double due = gap(random); due < end; due += gap(random)) {
    timer.expires_at(run.start + nanoseconds(due));
    co_await timer.async_wait(use_awaitable);
    const int64_t index = run.started;
    asio::co_spawn(executor, one_request(run, index, add_record(run, due)), asio::detached);
  }
}

asio::awaitable<void> closed_loop(Run& run) {
  const double end = run.options.warm_up + run.options.seconds;
  while (since(run.start) < end) {
    const int64_t index = run.started;
    co_await one_request(run, index, add_record(run, since(run.start)));
  }
}

}  // namespace

Result<ServedModel> served_model(const Endpoint& endpoint) {
  try {
    asio::io_context io(1);
    const Addresses addresses = tcp::resolver(io).resolve(endpoint.host, endpoint.port);
    const auto request = make_request(endpoint, http::verb::get, "/v1/models");
    http::response_parser<http::string_body> parser;
    const auto ask = [&](auto& stream) -> asio::awaitable<void> {
      co_await http::async_write(stream, request, use_awaitable);
      beast::flat_buffer buffer;
      const auto [error, unused] = co_await http::async_read(stream, buffer, parser, asio::as_tuple(use_awaitable));
      check_read(parser, error);
    };
    auto asked = asio::co_spawn(
        io, with_connection(endpoint, addresses, nanoseconds(LoadOptions().request_timeout), ask), asio::use_future);
    io.run();
    asked.get();
    const auto& response = parser.get();
    const auto body = parse_json(response.body());
    if (response.result_int() != 200) {
      const std::string reason = body.ok() ? reason_in(*body) : std::string();
      return Status(Code::kUnavailable,
                    cat("the server refuses: status ", response.result_int(), reason.empty() ? "" : ": ", reason));
    }
    if (!body.ok() || !body->contains("data") || !(*body)["data"].is_array()) {
      return Status(Code::kUnavailable, "the server's list of models is not understood");
    }
    const auto text = [](const Json& model, const char* name) {
      const auto at = model.is_object() ? model.find(name) : model.end();
      return at != model.end() && at->is_string() ? at->get<std::string>() : std::string();
    };
    for (const Json& model : (*body)["data"]) {
      const std::string id = text(model, "id");
      if (!id.empty() && (endpoint.model.empty() || id == endpoint.model))
        return ServedModel{id, text(model, "device")};
    }
    if (!endpoint.model.empty()) return ServedModel{endpoint.model, {}};
    return Status(Code::kUnavailable, "the server lists no model");
  } catch (const std::exception& e) {
    return Status(Code::kUnavailable, cat("no answer from ", endpoint.authority, ": ", words_of(e)));
  }
}

std::vector<RequestRecord> run_load(const Endpoint& endpoint, const LoadOptions& options,
                                    const std::function<Prompt(int64_t)>& make_prompt,
                                    const std::function<void(int64_t, int64_t)>& progress) {
  asio::io_context io(1);
  Run run{endpoint,
          options,
          make_prompt,
          tcp::resolver(io).resolve(endpoint.host, endpoint.port),
          std::chrono::steady_clock::now(),
          {},
          0,
          0};
  if (options.rate > 0) {
    asio::co_spawn(io, open_loop(run), asio::detached);
  } else {
    for (int64_t i = 0; i < options.concurrency; ++i) asio::co_spawn(io, closed_loop(run), asio::detached);
  }
  while (io.run_for(std::chrono::milliseconds(250)), !io.stopped()) progress(run.done, run.started);
  progress(run.done, run.started);

  std::vector<RequestRecord> counted;
  for (auto& record : run.records) {
    if (record->due >= options.warm_up) counted.push_back(std::move(*record));
  }
  std::sort(counted.begin(), counted.end(), [](const auto& a, const auto& b) { return a.due < b.due; });
  return counted;
}

}  // namespace hearth
