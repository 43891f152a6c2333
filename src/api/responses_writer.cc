// One item is open at a time: reasoning, a message's text or a call's arguments. Ended items are kept for the last
// event.
#include "api/responses_writer.h"

#include <nlohmann/json.hpp>

#include "api/json_writer.h"
#include "api/random_id.h"

namespace hearth {
namespace {

Json text_part(std::string_view text) {
  return {{"type", "output_text"}, {"text", text}, {"annotations", Json::array()}, {"logprobs", Json::array()}};
}
Json reasoning_part(std::string_view text) { return {{"type", "reasoning_text"}, {"text", text}}; }

class ResponsesWriter final : public AnswerWriter {
 public:
  ResponsesWriter(ResponsesHead head, std::function<void(Json)> ended)
      : head_(std::move(head)), ended_(std::move(ended)) {}

  void write_piece(std::string& out, Choice& choice, const Usage&) override {
    if (!begun_) {
      begun_ = true;
      event(out, "response.created", {{"response", response("in_progress", {})}});
      event(out, "response.in_progress", {{"response", response("in_progress", {})}});
    }
    take(out, choice);
    if (!choice.finish) return;
    close(out, *choice.finish == FinishReason::kLength ? "incomplete" : "completed");
    finish_ = *choice.finish;
  }

  void write_end(std::string& out, const Usage& usage) override {
    tell();
    event(out, finish_ == FinishReason::kLength ? "response.incomplete" : "response.completed",
          {{"response", finished(usage)}});
  }

  void write_error(std::string& out, const ApiError& error) override {
    Json failed = response("failed", {});
    failed["error"] = {{"code", "server_error"}, {"message", error.message}};
    event(out, "response.failed", {{"response", std::move(failed)}});
  }

  void write_whole(std::string& out, std::span<Choice* const> choices, const Usage& usage) override {
    std::string unused;
    take(unused, *choices.front());
    finish_ = *choices.front()->finish;
    close(unused, finish_ == FinishReason::kLength ? "incomplete" : "completed");
    tell();
    out += dump(finished(usage));
  }

 private:
  enum class Kind { kNone, kReasoning, kText, kCall };

  static std::string dump(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

  void event(std::string& out, std::string_view type, Json body) {
    Json all{{"type", type}, {"sequence_number", sequence_++}};
    all.update(body);
    out += cat("event: ", type, "\ndata: ", dump(all), "\n\n");
  }

  Json response(std::string_view status, const Json& usage) const {
    Json out{{"id", head_.id},   {"object", "response"},          {"created_at", head_.created}, {"status", status},
             {"error", nullptr}, {"incomplete_details", nullptr}, {"model", head_.model},        {"output", output_}};
    out.update(head_.echo);
    out["usage"] = usage.empty() ? Json() : usage;
    return out;
  }
  Json finished(const Usage& usage) const {
    const bool cut = finish_ == FinishReason::kLength;
    Json out = response(cut ? "incomplete" : "completed",
                        {{"input_tokens", usage.prompt_tokens},
                         {"input_tokens_details", {{"cached_tokens", usage.cached_tokens}}},
                         {"output_tokens", usage.completion_tokens},
                         {"output_tokens_details", {{"reasoning_tokens", reasoning_tokens_}}},
                         {"total_tokens", usage.prompt_tokens + usage.completion_tokens}});
    if (cut) out["incomplete_details"] = {{"reason", "max_output_tokens"}};
    return out;
  }

  void take(std::string& out, const Choice& choice) {
    reasoning_tokens_ = choice.reasoning_tokens;
    if (!choice.reasoning.empty()) {
      open(out, Kind::kReasoning,
           {{"type", "reasoning"}, {"id", random_id("rs_")}, {"summary", Json::array()}, {"content", Json::array()}});
      add(out, "response.reasoning_text.delta", choice.reasoning);
    }
    if (!choice.text.empty()) {
      open(out, Kind::kText,
           {{"type", "message"},
            {"id", random_id("msg_")},
            {"status", "in_progress"},
            {"role", "assistant"},
            {"content", Json::array()}});
      add(out, "response.output_text.delta", choice.text);
    }
    for (const CallDelta& call : choice.calls) {
      if (!call.id.empty()) {
        close(out, "completed");
        open(out, Kind::kCall,
             {{"type", "function_call"},
              {"id", random_id("fc_")},
              {"call_id", call.id},
              {"name", call.name},
              {"arguments", ""},
              {"status", "in_progress"}});
      }
      if (!call.arguments.empty()) add(out, "response.function_call_arguments.delta", call.arguments);
    }
  }

  // Where the open item is, as each of its events says.
  Json place() const {
    Json out{{"item_id", item_["id"]}, {"output_index", std::ssize(output_)}};
    if (kind_ != Kind::kCall) out["content_index"] = 0;
    return out;
  }
  Json part(std::string_view text) const { return kind_ == Kind::kText ? text_part(text) : reasoning_part(text); }

  void open(std::string& out, Kind kind, Json item) {
    if (kind_ == kind) return;
    close(out, "completed");
    kind_ = kind;
    item_ = std::move(item);
    text_.clear();
    event(out, "response.output_item.added", {{"output_index", std::ssize(output_)}, {"item", item_}});
    if (kind == Kind::kCall) return;
    Json body = place();
    body["part"] = part("");
    event(out, "response.content_part.added", std::move(body));
  }

  void add(std::string& out, std::string_view type, const std::string& text) {
    text_ += text;
    Json body = place();
    body["delta"] = text;
    if (kind_ == Kind::kText) body["logprobs"] = Json::array();
    event(out, type, std::move(body));
  }

  void close(std::string& out, std::string_view status) {
    if (kind_ == Kind::kNone) return;
    Json body = place();
    if (kind_ == Kind::kCall) {
      item_["arguments"] = text_;
      body["arguments"] = text_;
      body["name"] = item_["name"];
      event(out, "response.function_call_arguments.done", std::move(body));
    } else {
      item_["content"] = Json::array({part(text_)});
      Json done = body;
      body["text"] = text_;
      if (kind_ == Kind::kText) body["logprobs"] = Json::array();
      event(out, kind_ == Kind::kText ? "response.output_text.done" : "response.reasoning_text.done", std::move(body));
      done["part"] = part(text_);
      event(out, "response.content_part.done", std::move(done));
    }
    if (item_.contains("status")) item_["status"] = status;
    event(out, "response.output_item.done", {{"output_index", std::ssize(output_)}, {"item", item_}});
    if (kind_ == Kind::kText) message_["content"] = message_.value("content", "") + text_;
    if (kind_ == Kind::kReasoning) message_["reasoning_content"] = text_;
    if (kind_ == Kind::kCall) {
      message_["tool_calls"].push_back({{"id", item_["call_id"]},
                                        {"type", "function"},
                                        {"function", {{"name", item_["name"]}, {"arguments", text_}}}});
    }
    output_.push_back(std::move(item_));
    item_ = {};
    kind_ = Kind::kNone;
  }

  void tell() {
    if (!ended_) return;
    if (!message_.contains("content")) message_["content"] = "";
    ended_(message_);
  }

  const ResponsesHead head_;
  const std::function<void(Json)> ended_;
  bool begun_ = false;
  int64_t sequence_ = 0, reasoning_tokens_ = 0;
  Kind kind_ = Kind::kNone;
  Json item_, output_ = Json::array();
  Json message_{{"role", "assistant"}};
  std::string text_;
  FinishReason finish_ = FinishReason::kStop;
};

}  // namespace

std::unique_ptr<AnswerWriter> make_responses_writer(ResponsesHead head, std::function<void(Json)> ended) {
  return std::make_unique<ResponsesWriter>(std::move(head), std::move(ended));
}

}  // namespace hearth
