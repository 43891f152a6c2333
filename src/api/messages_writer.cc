// One block is open at a time: thinking, text or a call's input.
#include "api/messages_writer.h"

#include <nlohmann/json.hpp>

#include "api/json_writer.h"
#include "base/json.h"

namespace hearth {
namespace {

const char* stop_reason(const Choice& choice) {
  if (choice.stop_string) return "stop_sequence";
  if (*choice.finish == FinishReason::kLength) return "max_tokens";
  return choice.num_calls > 0 ? "tool_use" : "end_turn";
}

void write_stop(JsonWriter& w, const Choice& choice) {
  w.field("stop_reason", stop_reason(choice)).key("stop_sequence");
  choice.stop_string ? w.value(*choice.stop_string) : w.null();
}

void write_usage(JsonWriter& w, const Usage& usage) {
  w.key("usage").begin_object().field("input_tokens", usage.prompt_tokens - usage.cached_tokens);
  w.field("cache_creation_input_tokens", 0).field("cache_read_input_tokens", usage.cached_tokens);
  w.field("output_tokens", usage.completion_tokens).end_object();
}

class MessagesWriter final : public AnswerWriter {
 public:
  MessagesWriter(std::string id, std::string model) : id_(std::move(id)), model_(std::move(model)) {}

  void write_piece(std::string& out, Choice& choice, const Usage& usage) override {
    if (!begun_) begin(out, usage);
    if (!choice.reasoning.empty()) {
      open(out, Block::kThinking);
      delta(out, "thinking_delta", "thinking", choice.reasoning);
    }
    if (!choice.text.empty()) {
      open(out, Block::kText);
      delta(out, "text_delta", "text", choice.text);
    }
    for (const CallDelta& call : choice.calls) {
      if (!call.id.empty()) open_call(out, call);
      if (!call.arguments.empty()) delta(out, "input_json_delta", "partial_json", call.arguments);
    }
    if (!choice.finish) return;
    close(out);
    event(out, "message_delta", [&](JsonWriter& w) {
      w.key("delta").begin_object();
      write_stop(w, choice);
      w.end_object();
      write_usage(w, usage);
    });
  }

  void write_end(std::string& out, const Usage&) override {
    event(out, "message_stop", [](JsonWriter&) {});
  }

  void write_error(std::string& out, const ApiError& error) override {
    out += cat("event: error\ndata: ", messages_error_body(error), "\n\n");
  }

  void write_whole(std::string& out, std::span<Choice* const> choices, const Usage& usage) override {
    const Choice& choice = *choices.front();
    JsonWriter w(out);
    w.begin_object();
    write_head(w);
    w.key("content").begin_array();
    if (!choice.reasoning.empty()) {
      w.begin_object()
          .field("type", "thinking")
          .field("thinking", choice.reasoning)
          .field("signature", "")
          .end_object();
    }
    if (!choice.text.empty()) w.begin_object().field("type", "text").field("text", choice.text).end_object();
    for (const CallDelta& call : choice.calls) {
      w.begin_object().field("type", "tool_use").field("id", call.id).field("name", call.name).key("input");
      // Cut off by max_tokens it is none.
      w.json(parse_json(call.arguments).ok() ? call.arguments : "{}");
      w.end_object();
    }
    w.end_array();
    write_stop(w, choice);
    write_usage(w, usage);
    w.end_object();
  }

 private:
  enum class Block { kNone, kThinking, kText, kCall };

  template <typename Body>
  void event(std::string& out, std::string_view name, const Body& body) {
    out += cat("event: ", name, "\ndata: ");
    JsonWriter w(out);
    w.begin_object().field("type", name);
    body(w);
    w.end_object();
    out += "\n\n";
  }

  void write_head(JsonWriter& w) const {
    w.field("id", id_).field("type", "message").field("role", "assistant").field("model", model_);
  }

  void begin(std::string& out, const Usage& usage) {
    begun_ = true;
    event(out, "message_start", [&](JsonWriter& w) {
      w.key("message").begin_object();
      write_head(w);
      w.key("content").begin_array().end_array().key("stop_reason").null().key("stop_sequence").null();
      write_usage(w, {usage.prompt_tokens, 0, usage.cached_tokens});
      w.end_object();
    });
  }

  void open(std::string& out, Block block) {
    if (open_ == block) return;
    close(out);
    open_ = block;
    event(out, "content_block_start", [&](JsonWriter& w) {
      w.field("index", index_).key("content_block").begin_object();
      if (block == Block::kThinking) w.field("type", "thinking").field("thinking", "").field("signature", "");
      if (block == Block::kText) w.field("type", "text").field("text", "");
      w.end_object();
    });
  }
  void open_call(std::string& out, const CallDelta& call) {
    close(out);
    open_ = Block::kCall;
    event(out, "content_block_start", [&](JsonWriter& w) {
      w.field("index", index_).key("content_block").begin_object().field("type", "tool_use").field("id", call.id);
      w.field("name", call.name).key("input").begin_object().end_object().end_object();
    });
  }
  void close(std::string& out) {
    if (open_ == Block::kNone) return;
    if (open_ == Block::kThinking) delta(out, "signature_delta", "signature", "");
    event(out, "content_block_stop", [&](JsonWriter& w) { w.field("index", index_); });
    ++index_;
    open_ = Block::kNone;
  }
  void delta(std::string& out, std::string_view type, std::string_view name, std::string_view text) {
    event(out, "content_block_delta", [&](JsonWriter& w) {
      w.field("index", index_).key("delta").begin_object().field("type", type).field(name, text).end_object();
    });
  }

  const std::string id_, model_;
  bool begun_ = false;
  Block open_ = Block::kNone;
  int64_t index_ = 0;
};

}  // namespace

std::unique_ptr<AnswerWriter> make_messages_writer(std::string id, std::string model) {
  return std::make_unique<MessagesWriter>(std::move(id), std::move(model));
}

std::string messages_error_body(const ApiError& error) {
  const auto type = [&] {
    switch (error.http_status) {
      case 401: return "authentication_error";
      case 404: return "not_found_error";
      case 413: return "request_too_large";
      case 429: return "rate_limit_error";
      case 503: return "overloaded_error";
      default: return error.http_status < 500 ? "invalid_request_error" : "api_error";
    }
  };
  std::string out;
  JsonWriter(out)
      .begin_object()
      .field("type", "error")
      .key("error")
      .begin_object()
      .field("type", type())
      .field("message", error.message)
      .end_object()
      .end_object();
  return out;
}

}  // namespace hearth
