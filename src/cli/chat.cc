// `hearth chat`: a conversation in the terminal, or one question through a pipe. A local model is served on a loopback
// port of this process behind a key of its own, so that there is one way to ask.
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "cli/commands.h"
#include "cli/http_client.h"
#include "cli/line_editor.h"
#include "cli/progress.h"

namespace hearth {
namespace {

std::atomic<bool> interrupted = false;

void on_interrupt(int) { interrupted = true; }

std::string random_key() {
  unsigned char bytes[16];
  HEARTH_CHECK(getrandom(bytes, sizeof bytes, 0) == sizeof bytes);
  std::string out;
  for (const unsigned char b : bytes) out += {"0123456789abcdef"[b >> 4], "0123456789abcdef"[b & 15]};
  return out;
}

// What a model writes must not steer the terminal.
std::string without_controls(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (static_cast<unsigned char>(c) >= 0x20 || c == '\n' || c == '\t') out += c;
  }
  return out;
}

// Takes the events of one answer apart and shows its text as it comes.
class AnswerPrinter {
 public:
  void feed(std::string_view bytes) {
    buffer_ += bytes;
    size_t begin = 0, end;
    while ((end = buffer_.find('\n', begin)) != buffer_.npos) {
      line(std::string_view(buffer_).substr(begin, end - begin));
      begin = end + 1;
    }
    buffer_.erase(0, begin);
  }
  // What is left where the answer was no stream: an error's body.
  std::string error_message() const {
    if (!error_.empty()) return error_;
    auto body = parse_json(buffer_);
    return body.ok() ? message_of(*body) : "the server's answer is not understood";
  }
  bool failed() const { return !error_.empty(); }

  std::string text;
  int64_t tokens = 0;
  std::chrono::steady_clock::time_point first, last;

 private:
  static std::string message_of(const Json& body) {
    const auto error = body.find("error");
    if (error == body.end() || !error->is_object() || !error->contains("message") || !(*error)["message"].is_string()) {
      return "the server refused";
    }
    return without_controls((*error)["message"].get<std::string>());
  }
  void line(std::string_view line) {
    if (!line.starts_with("data: {")) return;
    auto event = parse_json(line.substr(6));
    if (!event.ok()) return;
    if (event->contains("error")) error_ = message_of(*event);
    if (const auto usage = event->find("usage"); usage != event->end() && usage->is_object()) {
      if (const auto n = usage->find("completion_tokens"); n != usage->end() && n->is_number_integer()) {
        tokens = n->get<int64_t>();
      }
    }
    static const Json::json_pointer kContent("/choices/0/delta/content");
    if (!event->contains(kContent) || !event->at(kContent).is_string()) return;
    last = std::chrono::steady_clock::now();
    if (text.empty()) first = last;
    const auto& piece = event->at(kContent).get_ref<const std::string&>();
    text += piece;
    const std::string shown = without_controls(piece);
    std::fwrite(shown.data(), 1, shown.size(), stdout);
    std::fflush(stdout);
  }

  std::string buffer_, error_;
};

class Conversation {
 public:
  Conversation(const HttpClient& client, const ChatOptions& options, bool is_terminal)
      : client_(client), options_(options), is_terminal_(is_terminal) {
    reset();
  }
  void reset() {
    messages_ = Json::array();
    if (!options_.system.empty()) messages_.push_back(Json{{"role", "system"}, {"content", options_.system}});
  }

  // False when there was an error; it was said, and the question is forgotten.
  bool ask(std::string question) {
    messages_.push_back(Json{{"role", "user"}, {"content", std::move(question)}});
    Json request{{"messages", messages_},
                 {"stream", true},
                 {"stream_options", {{"include_usage", true}, {"continuous_usage_stats", true}}}};
    if (!options_.model.empty()) request["model"] = options_.model;
    if (options_.temperature) request["temperature"] = *options_.temperature;
    if (options_.max_tokens > 0) request["max_tokens"] = options_.max_tokens;
    interrupted = false;
    AnswerPrinter printer;
    // Arguments in another encoding than UTF-8 are repaired rather than refused.
    const std::string body = request.dump(-1, ' ', false, Json::error_handler_t::replace);
    const auto answered =
        client_.post_json("/v1/chat/completions", body, [&](std::string_view bytes) { printer.feed(bytes); });
    std::fputc('\n', stdout);
    const bool stopped = answered.status().code() == Code::kCancelled;
    if (!stopped && (!answered.ok() || *answered != 200 || printer.failed())) {
      log_error(answered.ok() ? printer.error_message() : answered.status().message());
      messages_.erase(messages_.size() - 1);
      return false;
    }
    messages_.push_back(Json{{"role", "assistant"}, {"content", printer.text}});
    if (is_terminal_) show_speed(printer, stopped);
    return true;
  }

 private:
  static void show_speed(const AnswerPrinter& printer, bool stopped) {
    const std::chrono::duration<double> took = printer.last - printer.first;
    std::fprintf(stderr, "\033[2m(%s%lld tokens", stopped ? "stopped; " : "", static_cast<long long>(printer.tokens));
    if (printer.tokens > 1 && took.count() > 0) {
      std::fprintf(stderr, ", %.1f tokens/s", static_cast<double>(printer.tokens - 1) / took.count());
    }
    std::fputs(")\033[0m\n\n", stderr);
  }

  const HttpClient& client_;
  const ChatOptions& options_;
  const bool is_terminal_;
  Json messages_;
};

constexpr const char* kHelp =
    "  /help    this list\n"
    "  /reset   forget the conversation\n"
    "  /exit    leave; ctrl-D too\n"
    "Ctrl-C stops an answer or drops a line. The arrow keys edit the line and bring back earlier ones; ctrl-R "
    "searches\n"
    "them. A question that begins with a slash is asked with a space in front of it.\n\n";

// "/word", and no more than that.
bool is_command(std::string_view line) {
  if (!line.starts_with('/')) return false;
  line = line.substr(0, line.find_last_not_of(" \t") + 1);
  return line.size() > 1 && std::ranges::all_of(line.substr(1), [](char c) { return c >= 'a' && c <= 'z'; });
}

void talk(Conversation& conversation) {
  std::fputs("Ask away. /help lists what else there is; ctrl-C stops an answer, ctrl-D leaves.\n\n", stderr);
  LineEditor editor("> ", interrupted);
  std::string line;
  while (true) {
    interrupted = false;
    switch (editor.read(line)) {
      case LineEditor::Typed::kEnd: std::fputc('\n', stdout); return;
      case LineEditor::Typed::kInterrupted: std::fputs("\n(/exit or ctrl-D leaves)\n", stderr); continue;
      case LineEditor::Typed::kLine: break;
    }
    if (is_command(line)) {
      const std::string command = line.substr(0, line.find_last_not_of(" \t") + 1);
      if (command == "/exit" || command == "/quit") return;
      if (command == "/reset") {
        conversation.reset();
        std::fputs("(forgotten)\n\n", stderr);
      } else {
        if (command != "/help") std::fputs("There is no such command.\n", stderr);
        std::fputs(kHelp, stderr);
      }
    } else if (line.find_first_not_of(" \t") != line.npos) {
      conversation.ask(line.starts_with(" /") ? line.substr(1) : line);
    }
  }
}

}  // namespace

int chat_command(ServerOptions server_options, ChatOptions options) {
  LocalServer server;
  if (options.url.empty()) {
    set_log_level(LogLevel::kWarning);
    options.api_key = random_key();
    server_options.host = "127.0.0.1";
    server_options.port = 0;
    server_options.api_keys = {options.api_key};
    // OpenAI's 1.0 makes small models babble.
    server_options.sampling.temperature = 0.5f;
    server_options.sampling.top_p = 0.9f;
    server_options.sampling.min_p = 0.1f;
    Status status = server.listen(server_options);
    if (status.ok()) {
      ProgressLine line("loading");
      status = server.load(server_options, [&](int64_t loaded, int64_t total) { line.update(loaded, total); });
    }
    if (!status.ok()) {
      log_error(status.message());
      return 1;
    }
    options.url = cat("http://127.0.0.1:", server.port());
  }
  auto endpoint = parse_endpoint(options.url, options.trust);
  if (!endpoint.ok()) {
    log_error(endpoint.status().message());
    return 1;
  }
  endpoint->api_key = options.api_key;

  struct sigaction action {};
  action.sa_handler = on_interrupt;
  const bool is_terminal = isatty(STDIN_FILENO) != 0;
  if (is_terminal) sigaction(SIGINT, &action, nullptr);
  const HttpClient client(*endpoint, [] { return interrupted.load(); });
  Conversation conversation(client, options, is_terminal);
  if (is_terminal) {
    talk(conversation);
    return 0;
  }
  std::string question{std::istreambuf_iterator<char>(std::cin), {}};
  while (question.ends_with('\n')) question.pop_back();
  if (question.empty()) {
    log_error("there is no question on the standard input");
    return 1;
  }
  return conversation.ask(std::move(question)) ? 0 : 1;
}

}  // namespace hearth
